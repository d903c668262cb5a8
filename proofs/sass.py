"""Compare the machine code of every CUDA kernel with a budget: red if it becomes worse.

NVRTC compiles the kernels for the H200 (sm_90), and nvdisasm reads the instructions back. Neither needs a
GPU. A budget is of one version of NVRTC: another one gives no verdict.

    python3 scripts/prove.py --only sass      compare
    python3 -m proofs.sass --write            write sass_budget.json, after a change that is meant

Of float32 and bfloat16 kernels, plain ones and those that serve the members of a pack, it counts:

    registers, spilled bytes      as ptxas reports them
    local                         instructions that read or write local memory
    indirect                      indirect branches in loops, such as a switch over φ for each element
    widest                        bits of the widest load from global memory in a loop
    looped                        instructions in loops, each counted once

    stacks                        the same of the kernels of narrow networks, in bfloat16
    rows of the loss              warp instructions of a row of softmax cross-entropy of class indices
"""

import ctypes
import functools
import importlib
import json
import re
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ffnn_gpu.backends.cuda.fused import stack
from ffnn_gpu.backends.cuda.kernels import (
    ARITHMETIC,
    FORMULAS,
    KERNELS,
    OF_MEMBERS,
    OPTIONS,
    Generated,
    generated,
    only,
    source,
)
from ffnn_gpu.nn.activations import gelu, identity, relu
from proofs import ROOT, Figure, Settings

BUDGET = ROOT / "proofs" / "sass_budget.json"
PROMISE = "the machine code of CUDA kernels is within its budget"
TYPES = ("_f32", "_bf16")
KINDS = "plain", "of members", "stacks"
SLACK = 1.05  # of instructions: another order of the same code may need a few more
STACKS = ((64,) * 6, relu, False), ((256, 64, 64, 64, 64, 16), relu, True), ((128,) * 4, gelu, False)
SHARED = 232_448  # bytes of shared memory of a block of an H200
LOSS_ROWS = {16: 2, 64: 8, 256: 32}  # classes → lanes of a row
LINE = re.compile(
    r"^\.text\.(\S+):$|^(\.L_x_\d+):$|^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([\w.]+)(.*?);"
)
ENTRY = re.compile(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", re.S)
SPILL = re.compile(r"(\d+) bytes spill (?:stores|loads)")
INDIRECT, LOCAL = ("BRX", "BRXU", "JMX", "JMXU"), ("LDL", "STL")
WIDTHS = {"128": 128, "64": 64, "U16": 16, "S16": 16, "U8": 8, "S8": 8}


class Counts(NamedTuple):
    """What is counted of one kernel; the first four and the last are better if smaller."""

    registers: int
    spilled: int
    local: int
    indirect: int
    widest: int
    looped: int


class Instruction(NamedTuple):
    """One instruction: its address, its name with modifiers, and the label that it branches to."""

    address: int
    name: str
    target: str


def prove(settings: Settings) -> list[Figure]:
    """Return one row for kernels and one for the rows of the loss."""
    if missing := _missing():
        return [Figure(PROMISE, missing, None)]
    budget, found = json.loads(BUDGET.read_text(encoding="utf-8")), measured(settings.scratch)
    if budget["nvrtc"] != found["nvrtc"]:
        was, here = (".".join(map(str, each["nvrtc"])) for each in (budget, found))
        return [Figure(PROMISE, f"no verdict: the budget is of NVRTC {was}, here is {here}", None)]
    worse = [line for kind in KINDS for line in compared(budget[kind], found[kind], kind)]
    kernels = sum(len(found[kind]) for kind in KINDS)
    rows = found["rows of the loss"]
    slow = [f"{C} classes: {n}, budget {budget['rows of the loss'][C]}" for C, n in rows.items()
            if n > budget["rows of the loss"][C] * SLACK]  # fmt: skip
    return [
        Figure(PROMISE, f"{kernels} kernels, {len(worse)} worse", not worse, worse),
        Figure("a row of the loss takes the instructions of its budget",
               ", ".join(f"{n} for {C} classes" for C, n in rows.items()), not slow, slow),
    ]  # fmt: skip


def compared(budget: dict[str, list[int]], found: dict[str, list[int]], kind: str) -> list[str]:
    """Return a line for each kernel that is worse than its budget, or has none."""
    lines = []
    for name, numbers in found.items():
        if name not in budget:
            lines.append(f"{name} ({kind}) has no budget; run python3 -m proofs.sass --write")
            continue
        was, here = Counts(*budget[name]), Counts(*numbers)
        worse = [each for each in ("registers", "spilled", "local", "indirect")
                 if getattr(here, each) > getattr(was, each)]  # fmt: skip
        worse += ["widest"] * (here.widest < was.widest) + ["looped"] * (here.looped > was.looped * SLACK)
        lines += [
            f"{name} ({kind}): {getattr(here, each)} {each}, budget {getattr(was, each)}" for each in worse
        ]
    return lines


def measured(scratch: Path) -> dict[str, Any]:
    """Return the counts of every kernel that is in the budget."""
    code = source(ARITHMETIC, KERNELS, FORMULAS) + generated(
        [kernel for kernel in _tests().kernels_of_formulas() if kernel.name.endswith(TYPES)]
    )
    found: dict[str, Any] = {"nvrtc": list(_version())}
    for kind, options in (("plain", []), ("of members", [OF_MEMBERS])):
        found[kind] = _counted(code, options, scratch)
    code = source(ARITHMETIC, *stack.FILES) + generated(stacks())
    found["stacks"] = _counted(code, [], scratch)
    found["rows of the loss"] = {str(C): rows_of_loss(C, lanes, scratch) for C, lanes in LOSS_ROWS.items()}
    return found


def _counted(code: str, options: list[str], scratch: Path) -> dict[str, list[int]]:
    """Return what is counted of each kernel of this text."""
    image, log = compiled(code, ["-DONLY_F32", *options])
    bodies, of_ptxas = dict(functions(disassembled(image, scratch))), dict(registers(log))
    names = (name for name in sorted(of_ptxas) if name.endswith(TYPES))
    return {name: list(counts(*of_ptxas[name], *bodies[name])) for name in names}


def stacks() -> list[Generated]:
    """Return the kernels of a step and of a prediction of STACKS, with softmax cross-entropy."""
    kernels = []
    for widths, phi, dropout in STACKS:
        *inner, last = pairwise(widths)
        step, prediction = (
            stack.Stack(
                "bf16",
                (*(stack.dense_layer(*of, phi, drops) for of in inner), stack.dense_layer(*last, identity)),
                loss,
                SHARED,
            )
            for loss, drops in ((stack.CROSS_ENTROPY, dropout), (None, False))
        )
        kernels += step.gradients, step.gradient_sums, prediction.prediction
    return kernels


def rows_of_loss(C: int, lanes: int, scratch: Path) -> float:
    """Return the warp instructions of one row of C classes, in bfloat16, with the gradient."""
    entry = f"""
typedef __nv_bfloat16 T;
extern "C" __global__ void __launch_bounds__(THREADS)
    rows(const T* z, const int* y, T* dz, double* out, int B) {{
  z = (const T*)__builtin_assume_aligned(z, 16);
  dz = (T*)__builtin_assume_aligned(dz, 16);
  out[threadIdx.x] = cross_entropy_of_labels<{lanes}, T>(z, y, nullptr, B, dz, B, {C}, 0.0f);
}}
"""
    image, _ = compiled(only(source(ARITHMETIC, KERNELS), "") + entry, ["-DONLY_F32"])
    body, labels = dict(functions(disassembled(image, scratch)))["rows"]
    first, last = max(loops(body, labels), key=lambda each: each[1] - each[0])
    return round(sum(first <= each.address <= last for each in body) * lanes / 32, 1)


def counts(registers: int, spilled: int, body: list[Instruction], labels: dict[str, int]) -> Counts:
    """Return what is counted of one kernel."""
    inside = [each for each in body if any(a <= each.address <= b for a, b in loops(body, labels))]
    loads = [each.name.split(".")[1:] for each in inside if each.name.startswith("LDG")]
    widest = max((next((WIDTHS[m] for m in mods if m in WIDTHS), 32) for mods in loads), default=0)
    local = sum(each.name.split(".")[0] in LOCAL for each in body)
    indirect = sum(each.name.split(".")[0] in INDIRECT for each in inside)
    return Counts(registers, spilled, local, indirect, widest, len(inside))


def loops(body: list[Instruction], labels: dict[str, int]) -> list[tuple[int, int]]:
    """Return (first address, last address) of each loop: from the target of a branch backwards to it."""
    back = ((labels[each.target], each.address) for each in body if each.target in labels)
    return [(start, end) for start, end in back if start < end]


def functions(text: str) -> Iterator[tuple[str, tuple[list[Instruction], dict[str, int]]]]:
    """Yield (name, (instructions, label → address)) of each function in nvdisasm's text."""
    name, body, labels, waiting = "", list[Instruction](), dict[str, int](), list[str]()
    for line in text.splitlines():
        if not (match := LINE.match(line)):
            continue
        function, label, address, opcode, rest = match.groups()
        if function:
            if name:
                yield name, (body, labels)
            name, body, labels, waiting = function, [], {}, []
        elif label:
            waiting.append(label)
        else:
            labels |= dict.fromkeys(waiting, int(address, 16))
            waiting.clear()
            target = re.search(r"`\((\.L_x_\d+)\)", rest)
            body.append(Instruction(int(address, 16), opcode, target[1] if target else ""))
    if name:
        yield name, (body, labels)


def registers(log: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield (kernel, (registers, bytes spilled)) from the log of ptxas."""
    for name, listing in ENTRY.findall(log):
        spilled = max((int(n) for n in SPILL.findall(listing)), default=0)
        yield name, (int(re.search(r"Used (\d+) registers", listing)[1]), spilled)  # type: ignore[index]


# ---------------------------------------------------------------------- the tools


def compiled(code: str, options: list[str]) -> tuple[bytes, str]:
    """Return NVRTC's machine code for sm_90 and its log."""
    library, headers = _tests_of_nvrtc().nvrtc()
    given = ["-arch=sm_90", "--ptxas-options=-v", *OPTIONS, *_tests_of_nvrtc().CUPYS, "-DWITH_16_BIT"]
    given += [f"-I{headers}", *options]
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None)
    arguments = (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
    status = library.nvrtcCompileProgram(program, len(given), arguments)
    texts = []
    for what in ("ProgramLog", "CUBIN"):
        getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(library, f"nvrtcGet{what}")(program, buffer)
        texts.append(buffer.raw)
        if status:
            raise RuntimeError(buffer.value.decode(errors="replace"))
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return texts[1], texts[0].rstrip(b"\0").decode(errors="replace")


def disassembled(image: bytes, scratch: Path) -> str:
    """Return nvdisasm's text of the machine code."""
    file = scratch / "kernels.cubin"
    file.write_bytes(image)
    done = subprocess.run([str(_nvdisasm()), "-c", str(file)], capture_output=True, text=True, check=True)
    return done.stdout


@functools.cache
def _nvdisasm() -> Path | None:
    for root in sorted({*site.getsitepackages(), sysconfig.get_path("purelib")}):
        for folder in ("cu13/bin", "cuda_nvdisasm/bin"):
            if (found := Path(root) / "nvidia" / folder / "nvdisasm").exists():
                return found
    return None


def _missing() -> str:
    """Return what must be installed, or ""."""
    if _tests_of_nvrtc().nvrtc() is None:
        return 'no NVRTC is installed; pip install ".[nvrtc]"'
    return "" if _nvdisasm() else 'no nvdisasm is installed; pip install ".[prove]"'


def _version() -> tuple[int, int]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    _tests_of_nvrtc().nvrtc()[0].nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def _tests() -> Any:
    return importlib.import_module("tests.backends.cuda.kernel_checks")


def _tests_of_nvrtc() -> Any:
    return importlib.import_module("tests.backends.cuda.test_kernels_compile")


def main(arguments: list[str]) -> int:
    """Write the budget."""
    if arguments != ["--write"] or (missing := _missing()):
        print("python3 -m proofs.sass --write" if arguments != ["--write"] else missing)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        found = measured(Path(scratch))
    parts = ",\n".join(
        f' "{kind}": ' + (_lines(value) if isinstance(value, dict) else json.dumps(value))
        for kind, value in found.items()
    )
    BUDGET.write_text(f"{{\n{parts}\n}}\n", encoding="utf-8")
    return 0


def _lines(rows: dict[str, Any]) -> str:
    return "{\n" + ",\n".join(f'  "{name}": {json.dumps(row)}' for name, row in rows.items()) + "\n }"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

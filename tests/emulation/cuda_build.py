"""Compile the text of CUDA kernels with g++ into a library for this CPU, once per content.

The checked build is -O0 with the compiler's instrumentation (thread, bounds, shift, …), which calls shadow.h.
The fast build is -O2 without it. `-ffp-contract=off` and no fast-math: sums are computed as the kernel's text
states.
"""

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
HEADERS = sorted(HERE.glob("*.h"))
MOST_DYNAMIC = 227 * 1024  # bytes of shared memory per block, from compute capability 9.0
COMMON = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-g1", "-ffp-contract=off", "-fno-strict-aliasing"]
KERNEL = [
    "-fno-gnu-unique",
    "-fno-extern-tls-init",  # __shared__ is thread_local: keep it plain
    "-ftrivial-auto-var-init=pattern",  # an uninitialised local is a large number instead of zero
    "-Werror=uninitialized",
    "-Werror=return-type",
    "-Wno-attributes",
]
CHECKED = [
    "-O0",
    "-fsanitize=thread",
    "--param=tsan-instrument-func-entry-exit=0",
    "-fsanitize=bounds,shift,integer-divide-by-zero,signed-integer-overflow,float-cast-overflow",
]
NVRTC_HEADERS = ("cuda_fp16.h", "cuda_bf16.h")  # a kernel may include them; cuda_on_cpu.h replaces them all
IGNORED_OPTION = re.compile(
    r"-{1,2}(use_fast_math|std=.*|lineinfo|line-info|device-as-default.*|gpu-architecture=.*|"
    r"arch=.*|ptxas-options=.*|extra-device-vectorization|fmad=.*|ftz=.*|prec-(div|sqrt)=.*)$"
)
KERNEL_HEAD = re.compile(
    r"emu_global\b\s*(?:void\b)?\s*(?:emu_bounds\s*(\((?:[^()]|\([^()]*\))*\)))?\s*(?:void\b)?"
    r"\s*(\w+)\s*\("
)
DYNAMIC_SHARED = re.compile(r"extern\s+__shared__[^;]*?(\w+)\s*\[\s*\]")


class CompileError(RuntimeError):
    """g++ refuses the text; the message is g++'s."""


def missing():
    """Return why kernels cannot run here, or None."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        return f"needs g++ on x86-64 Linux; this is {platform.machine()} {platform.system()}"
    return None if shutil.which("g++") else "needs g++"


def cache_folder():
    """Return the folder of builds: in $XDG_CACHE_HOME or ~/.cache, else in the temporary directory."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "ffnn_gpu_emulation"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"ffnn_gpu_emulation_{os.getuid()}"
        folder.mkdir(exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise
    return folder


def build(code, options=(), check=True):
    """Compile `code` unless it is cached; return the path of the library and the names of its kernels."""
    defines = preprocessor_options(options)
    flags = [*COMMON, *KERNEL, *(CHECKED if check else ["-O2"]), *defines]
    folder = cache_folder() / _digest(code, *flags)
    if not (folder / "kernels.txt").exists():
        with _new_folder(folder) as work:
            _compile(Path(work), code, flags, defines)
            _publish(Path(work), folder)
    return folder / "kernels.so", (folder / "kernels.txt").read_text().split()


def preprocessor_options(options):
    """Translate NVRTC's options: -D, -U and -I pass, those about speed or the device are dropped.

    Raises:
        CompileError: an option is unknown.
    """
    passed = []
    for option in options:
        option = re.sub(r"^--define-macro=", "-D", option)
        if re.match(r"-[DUI].", option):
            passed.append(option)
        elif not IGNORED_OPTION.match(option):
            raise CompileError(f"the emulator does not know the option {option!r}")
    return passed


def locate(library, message):
    """Replace each @hex code address in `message` by its line in the kernel text."""
    addresses = re.findall(r"@([0-9a-f]+)", message)
    if not addresses:
        return message
    lines = {}
    for address in set(addresses):
        found = subprocess.run(
            ["addr2line", "-i", "-e", library, "0x" + address], capture_output=True, text=True
        ).stdout
        line = re.search(r"kernels\.cu:(\d+)", found)
        lines[address] = f"line {line[1]}" if line else "an unknown line"
    return re.sub(r"@([0-9a-f]+)", lambda m: lines[m[1]], message)


def _digest(*texts):
    sources = [path.read_text(encoding="utf-8") for path in (*HEADERS, Path(__file__))]
    return hashlib.sha256("\0".join([*texts, *sources, _version()]).encode()).hexdigest()[:24]


@functools.cache
def _version():
    return subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True).stdout


def _new_folder(folder):
    return tempfile.TemporaryDirectory(dir=folder.parent, prefix="building_")


def _publish(work, folder):
    """Move a finished build into place, unless another process has already moved the same build there."""
    folder.mkdir(exist_ok=True)
    for name in ("kernels.so", "guards.txt", "kernels.txt"):  # the list comes last: it marks a complete build
        os.replace(work / name, folder / name)


def _compile(work, code, flags, defines):
    (work / "kernels.cu").write_text(code, encoding="utf-8")
    for name in NVRTC_HEADERS:
        (work / name).write_text("")
    kernels, dynamic = _declarations(work, defines)
    (work / "unit.cpp").write_text(_unit(kernels, dynamic), encoding="utf-8")
    _gpp(*flags, f"-I{HERE}", f"-I{work}", "-c", work / "unit.cpp", "-o", work / "unit.o")
    _gpp("-shared", work / "unit.o", _runtime(), "-Wl,-z,defs", "-o", work / "kernels.so", "-lm")
    symbols = subprocess.run(["nm", work / "kernels.so"], capture_output=True, text=True, check=True).stdout
    guards = sorted(int(at, 16) for at in re.findall(r"^([0-9a-f]+) [bBdD] _ZGVZ", symbols, re.M))
    (work / "guards.txt").write_text("\n".join(map(str, guards)))
    (work / "kernels.txt").write_text("\n".join(name for name, _ in kernels))


def _declarations(work, defines):
    """Return [(kernel name, launch bounds)] and [names of extern __shared__ arrays] after preprocessing."""
    markers = [
        "-D__global__=emu_global",
        "-D__launch_bounds__(...)=emu_bounds(__VA_ARGS__)",
        "-DCUDA_ON_CPU=1",
    ]
    text = _gpp("-E", "-P", "-x", "c++", "-std=c++17", *markers, *defines, f"-I{work}", work / "kernels.cu")
    kernels = []
    for head in KERNEL_HEAD.finditer(text):
        before = text[: head.start()].rsplit(";", 1)[-1].rsplit("}", 1)[-1]
        if "template" not in before:
            kernels.append((head[2], head[1] or "()"))
    return list(dict(kernels).items()), sorted(set(DYNAMIC_SHARED.findall(text)))


def _unit(kernels, dynamic):
    """Return the C++ unit: the kernels' text, an entry per kernel, and the pool of dynamic shared memory.

    All names of dynamic shared memory refer to that one pool.
    """
    names = ["emu_dynamic_shared", *dynamic]
    labels = "".join(rf".globl {name}\n.hidden {name}\n.type {name},@object\n{name}:\n" for name in names)
    pool = rf'asm(".section .tbss,\"awT\",@nobits\n.balign 128\n{labels}.zero {MOST_DYNAMIC}\n.text\n");'
    entries = "".join(f"EMU_KERNEL({name}, {bounds[1:-1]})\n" for name, bounds in kernels)
    headers = '#include "cuda_on_cpu.h"\n#include "kernels.cu"\n#pragma GCC visibility push(default)\n'
    return f"{headers}{entries}{pool}\n"


def _runtime():
    """Build runtime.o, the scheduler and the shadow memory, equal for all kernels."""
    folder = cache_folder() / _digest("runtime")
    if not (folder / "runtime.o").exists():
        with _new_folder(folder) as work:
            source = Path(work) / "runtime.cpp"
            source.write_text('#include "fibers.h"\n#include "shadow.h"\n', encoding="utf-8")
            _gpp(*COMMON, "-O2", f"-I{HERE}", "-c", source, "-o", Path(work) / "runtime.o")
            folder.mkdir(exist_ok=True)
            os.replace(Path(work) / "runtime.o", folder / "runtime.o")
    return folder / "runtime.o"


def _gpp(*arguments):
    done = subprocess.run(["g++", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise CompileError(done.stderr)
    return done.stdout


def load(path):
    """Load the library and declare the C types of its functions."""
    library = ctypes.CDLL(str(path))
    library.emu_message.restype = ctypes.c_char_p
    library.emu_configure.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_uint64, ctypes.c_double]
    library.emu_configure.restype = library.emu_forget_regions.restype = library.emu_add_region.restype = None
    library.emu_add_region.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    guards = [int(line) for line in (path.parent / "guards.txt").read_text().split()]
    library.emu_ignore_guards((ctypes.c_size_t * len(guards))(*guards), len(guards))
    return library

"""kernels.cu compiled for real GPUs, on a machine without one: NVRTC turns it into machine code and ptxas counts registers.

Skipped where no NVRTC is installed (the extra `nvrtc`); a failure instead where FFNN_GPU_REQUIRE_NVRTC=1. With
`pytest --junit-xml=FILE` the file holds the registers and spilled bytes of every kernel.
"""

import ctypes
import functools
import os
import re
import site
import sysconfig
from collections import defaultdict
from pathlib import Path

import pytest

from ffnn_gpu.backends.cuda.kernels import OPTIONS, SOURCE

REQUIRE = "FFNN_GPU_REQUIRE_NVRTC"
ENTRY = re.compile(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", re.S)
SPILL = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
TYPES = re.compile(r"(_(?:f16|bf16|f32|f64|u8|i32|i64))+$")  # at the end of a kernel's name
WHEELS = [
    ("cu13/lib", "cu13/include"),
    ("cuda_nvrtc/lib", "cuda_runtime/include"),
]  # of CUDA 13 and 12: library, headers
CUPYS = (
    "-ftz=true",
    "--device-as-default-execution-space",
)  # what CuPy 14 adds to the options of every RawModule
MOST_REGISTERS = 64  # with 256 threads in a block, four blocks fit a multiprocessor


@functools.cache
def nvrtc():
    """(the NVRTC library, the folder of its headers), both of one CUDA version; None where there is none."""
    for root in sorted({*site.getsitepackages(), sysconfig.get_path("purelib")}):
        for libraries, headers in WHEELS:
            found = sorted((Path(root) / "nvidia" / libraries).glob("libnvrtc.so.*"))
            if found:
                return ctypes.CDLL(str(found[0])), Path(root) / "nvidia" / headers
    return None


def installed_nvrtc():
    """NVRTC and its headers; skips where there is none, or fails where it is required."""
    found = nvrtc()
    if found is not None:
        return found
    reason = 'no NVRTC is installed; pip install ".[nvrtc]"'
    if os.environ.get(REQUIRE, "0") not in ("", "0"):
        pytest.fail(f"{REQUIRE} is set: {reason}", pytrace=False)
    return pytest.skip(reason)


def supports(library, architecture):
    count = ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    known = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(known)
    return architecture in known


def compiled(architecture):
    """kernel → (registers, bytes spilled), of every type. Raises AssertionError with NVRTC's own message."""
    library, headers = installed_nvrtc()
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    code = SOURCE.read_text(encoding="utf-8").encode()
    assert library.nvrtcCreateProgram(ctypes.byref(program), code, b"kernels.cu", 0, None, None) == 0
    given = [
        f"-arch=sm_{architecture}",
        "--ptxas-options=-v",
        *OPTIONS,
        *CUPYS,
        "-DWITH_16_BIT",
        f"-I{headers}",
    ]
    status = library.nvrtcCompileProgram(
        program, len(given), (ctypes.c_char_p * len(given))(*(g.encode() for g in given))
    )
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    text = log.value.decode(errors="replace")
    assert status == 0, text
    assert "warning" not in text, text
    found = {}
    for name, told in ENTRY.findall(text):
        spilled = [int(n) for pair in SPILL.findall(told) for n in pair]
        found[name] = int(re.search(r"Used (\d+) registers", told)[1]), max(spilled)
    return found


@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_every_kernel_compiles_without_warnings_and_none_but_float64_spills(
    architecture, record_testsuite_property
):
    if not supports(installed_nvrtc()[0], architecture):
        pytest.skip(f"this NVRTC knows no sm_{architecture}")
    kernels = compiled(architecture)
    assert {"bias_activation_f32", "bias_activation_bf16", "softmax_f16", "adam_f64", "gather_u8_f32"} <= set(
        kernels
    )
    families = defaultdict(list)
    for name, (registers, spilled) in sorted(kernels.items()):
        families[TYPES.sub("", name)].append(
            f"{name} {registers}" + f" and {spilled} bytes spilled" * (spilled > 0)
        )
    for family, numbers in families.items():
        record_testsuite_property(f"sm_{architecture} {family}", ", ".join(numbers))
    narrow = {name: numbers for name, numbers in kernels.items() if not name.endswith("f64")}
    assert {name: spilled for name, (_, spilled) in narrow.items() if spilled} == {}
    assert {name: registers for name, (registers, _) in narrow.items() if registers > MOST_REGISTERS} == {}


SPILLING = "float r[80]; EACH r[i] = x[i * n]; __syncthreads(); EACH x[i + n] = r[79 - i];"


@pytest.mark.parametrize(
    ("body", "message"),
    [("x[0] = y;", "undefined"), ("int unused;", "warning"), (SPILLING, "spills")],
    ids=range(3),
)
def test_a_mistake_a_warning_and_a_spill_are_seen(monkeypatch, tmp_path, body, message):
    installed_nvrtc()
    body = body.replace("EACH", '_Pragma("unroll") for (int i = 0; i < 80; i++)')
    (tmp_path / "k.cu").write_text(
        f'extern "C" __global__ void __launch_bounds__(1024) k(float* x, int n) {{ {body} }}'
    )
    monkeypatch.setitem(globals(), "SOURCE", tmp_path / "k.cu")
    if message != "spills":
        with pytest.raises(AssertionError, match=message):
            compiled(80)
    else:
        assert compiled(80)["k"][1] > 0


def test_absence_of_nvrtc_skips_or_fails(monkeypatch):
    monkeypatch.setitem(globals(), "nvrtc", lambda: None)
    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="nvrtc"):
        installed_nvrtc()
    monkeypatch.setenv(REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match=REQUIRE):
        installed_nvrtc()

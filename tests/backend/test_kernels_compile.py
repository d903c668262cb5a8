"""kernels.cu compiled for real GPUs, on a machine without one: NVRTC turns it into machine code and ptxas counts registers.

Skipped where no NVRTC is installed (wheels nvidia-cuda-nvrtc and, for the 16-bit headers, nvidia-cuda-runtime); a failure
instead where FFNN_GPU_REQUIRE_NVRTC=1.
"""

import ctypes
import functools
import os
import re
import site
import sysconfig
from pathlib import Path

import pytest

from ffnn_gpu.backend.kernels import OPTIONS, SOURCE

REQUIRE = "FFNN_GPU_REQUIRE_NVRTC"
ENTRY = re.compile(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", re.S)
SPILL = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


def folders():
    """Where the nvidia wheels may have put their files."""
    roots = {*site.getsitepackages(), sysconfig.get_path("purelib")}
    return [Path(root) / "nvidia" for root in roots if (Path(root) / "nvidia").is_dir()]


@functools.cache
def nvrtc():
    """The NVRTC library, or None."""
    for folder in folders():
        for path in sorted(folder.rglob("libnvrtc.so.*"), reverse=True):
            return ctypes.CDLL(str(path))
    try:
        return ctypes.CDLL("libnvrtc.so")
    except OSError:
        return None


def installed_nvrtc():
    """NVRTC; skips where there is none, or fails where it is required."""
    library = nvrtc()
    if library is not None: return library
    reason = "no NVRTC is installed; pip install nvidia-cuda-nvrtc nvidia-cuda-runtime"
    if os.environ.get(REQUIRE, "0") not in ("", "0"): pytest.fail(f"{REQUIRE} is set: {reason}", pytrace=False)
    return pytest.skip(reason)


def includes():
    return [f"-I{path.parent}" for folder in folders() for path in folder.rglob("cuda_bf16.h")][:1]


def supports(library, architecture):
    count = ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    known = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(known)
    return architecture in known


@functools.cache
def compiled(architecture, *options):
    """kernel → (registers, bytes spilled). Raises AssertionError with NVRTC's own message."""
    library = installed_nvrtc()
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    code = SOURCE.read_text(encoding="utf-8").encode()
    assert library.nvrtcCreateProgram(ctypes.byref(program), code, b"kernels.cu", 0, None, None) == 0
    given = [f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v", *OPTIONS, *options]
    status = library.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*(g.encode() for g in given)))
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
def test_every_kernel_compiles_and_none_in_float32_spills(architecture, record_property):
    if not supports(installed_nvrtc(), architecture): pytest.skip(f"this NVRTC knows no sm_{architecture}")
    kernels = compiled(architecture)
    assert {"bias_activation_f32", "adam_f64", "gather_u8_f32", "advance"} <= set(kernels)
    record_property("registers", max(registers for registers, _ in kernels.values()))
    assert [(name, spilled) for name, (_, spilled) in kernels.items() if spilled and not name.endswith("f64")] == []
    assert max(registers for name, (registers, _) in kernels.items() if not name.endswith("f64")) <= 64


def test_kernels_of_16_bit_types_compile_without_spills():
    installed_nvrtc()
    if not includes(): pytest.skip("cuda_bf16.h is not installed; pip install nvidia-cuda-runtime")
    kernels = compiled(90, "-DWITH_16_BIT", *includes())
    assert {"bias_activation_bf16", "softmax_f16", "adam_f32_bf16"} <= set(kernels)
    assert [(name, spilled) for name, (_, spilled) in kernels.items() if spilled and not name.endswith("f64")] == []


def test_absence_of_nvrtc_skips_or_fails(monkeypatch):
    monkeypatch.setitem(globals(), "nvrtc", lambda: None)
    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="nvidia-cuda-nvrtc"): installed_nvrtc()
    monkeypatch.setenv(REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match=REQUIRE): installed_nvrtc()

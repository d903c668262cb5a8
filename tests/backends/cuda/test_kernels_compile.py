"""Compile kernels.cu for real GPUs without a GPU: NVRTC makes machine code, and ptxas counts registers.

The tests are skipped without NVRTC (the extra `nvrtc`), and fail instead if FFNN_GPU_REQUIRE_NVRTC=1. With
`pytest --junit-xml=FILE` the file holds the registers and spilled bytes of every kernel.

FFNN_GPU_ARCHITECTURES=80,90,100 compiles for these compute capabilities; the default is 90 (H200).
"""

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import re
import site
import sysconfig
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from ffnn_gpu.backends.cuda.kernels import ARITHMETIC, FORMULAS, KERNELS, OPTIONS, generated, source
from tests.backends.cuda.kernel_checks import kernels_of_formulas

REQUIRE = "FFNN_GPU_REQUIRE_NVRTC"
ARCHITECTURES = [int(number) for number in os.environ.get("FFNN_GPU_ARCHITECTURES", "90").split(",")]
ENTRY = re.compile(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", re.S)
SPILL = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
TYPES = re.compile(r"(_(?:f16|bf16|f32|f64|u8|i32|i64))+$")  # at the end of a kernel's name
# Library and headers in the wheels of CUDA 13 and 12.
WHEELS = [("cu13/lib", "cu13/include"), ("cuda_nvrtc/lib", "cuda_runtime/include")]
# the options that CuPy 14 adds to every RawModule
CUPYS = ("-ftz=true", "--device-as-default-execution-space")
MOST_REGISTERS = 64  # with 256 threads in a block, four blocks fit a multiprocessor


@functools.cache
def nvrtc():
    """Return (NVRTC library, folder of its headers) of one CUDA version; None if not installed."""
    for root in sorted({*site.getsitepackages(), sysconfig.get_path("purelib")}):
        for libraries, headers in WHEELS:
            found = sorted((Path(root) / "nvidia" / libraries).glob("libnvrtc.so.*"))
            if found:
                return ctypes.CDLL(str(found[0])), Path(root) / "nvidia" / headers
    return None


def installed_nvrtc():
    """Return NVRTC and its headers; skip if it is not installed, or fail if it is required."""
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


def cached_log(library, code, options):
    """Return (status, log) of NVRTC, from the cache if text, options and NVRTC are the same.

    Why a cache: an architecture takes 12 to 40 s, and most changes leave kernels.cu alone.
    """
    file = Path(library._name)
    key = "\0".join([code, *options, str(file), str(file.stat().st_size), str(file.stat().st_mtime_ns)])
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ffnn_gpu_nvrtc"
    entry = base / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    with contextlib.suppress(OSError, ValueError):
        status, text = json.loads(entry.read_text(encoding="utf-8"))
        return status, text
    found = compile_log(library, code, options)
    with contextlib.suppress(OSError):  # without a writable folder there is no cache
        base.mkdir(parents=True, exist_ok=True)
        half = base / f"{entry.name}.{os.getpid()}"
        half.write_text(json.dumps(found), encoding="utf-8")
        os.replace(half, entry)
    return found


def compile_log(library, code, options):
    """Compile `code` and return (status, log) of NVRTC."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    text = code.encode()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", 0, None, None) == 0
    given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = library.nvrtcCompileProgram(program, len(options), given)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return status, log.value.decode(errors="replace")


def text():
    """Return the text of every kernel, those of activations included."""
    return source(ARITHMETIC, KERNELS, FORMULAS) + generated(kernels_of_formulas())


def compiled(architecture, code=None):
    """Return kernel → (registers, bytes spilled) of a text, by default that of every kernel.

    Raises AssertionError with NVRTC's log.
    """
    library, headers = installed_nvrtc()
    options = [
        f"-arch=sm_{architecture}",
        "--ptxas-options=-v",
        *OPTIONS,
        *CUPYS,
        "-DWITH_16_BIT",
        f"-I{headers}",
    ]
    status, log = cached_log(library, text() if code is None else code, options)
    assert status == 0, log
    assert "warning" not in log, log
    found = {}
    for name, listing in ENTRY.findall(log):
        spilled = [int(n) for pair in SPILL.findall(listing) for n in pair]
        found[name] = int(re.search(r"Used (\d+) registers", listing)[1]), max(spilled)
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles_without_warnings_and_only_float64_spills(
    architecture, record_testsuite_property
):
    if not supports(installed_nvrtc()[0], architecture):
        pytest.skip(f"this NVRTC knows no sm_{architecture}")
    kernels = compiled(architecture)
    of_formulas = {kernel.name for kernel in kernels_of_formulas()}
    assert of_formulas | {"softmax_f16", "average_f64", "gather_u8_f32"} <= set(kernels)
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
def test_error_warning_and_spill_are_detected(monkeypatch, body, message):
    installed_nvrtc()
    body = body.replace("EACH", '_Pragma("unroll") for (int i = 0; i < 80; i++)')
    code = f'extern "C" __global__ void __launch_bounds__(1024) k(float* x, int n) {{ {body} }}'
    monkeypatch.setitem(globals(), "text", lambda: code)
    if message != "spills":
        with pytest.raises(AssertionError, match=message):
            compiled(80)
    else:
        assert compiled(80)["k"][1] > 0


def test_cache_is_read_only_for_the_same_text_options_and_nvrtc(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "libnvrtc.so").write_text("version 1")
    ran = []
    monkeypatch.setitem(globals(), "compile_log", lambda *given: ran.append(given) or (0, f"log {len(ran)}"))
    library = SimpleNamespace(_name=str(tmp_path / "libnvrtc.so"))
    assert [*cached_log(library, "a", ["-x"])] == [*cached_log(library, "a", ["-x"])] == [0, "log 1"]
    cached_log(library, "b", ["-x"])
    cached_log(library, "a", ["-y"])
    (tmp_path / "libnvrtc.so").write_text("version 1.1")
    cached_log(library, "a", ["-x"])
    assert len(ran) == 4
    for entry in (tmp_path / "ffnn_gpu_nvrtc").iterdir():
        entry.write_text("damaged")
    assert cached_log(library, "b", ["-x"]) == (0, "log 5")


def test_missing_nvrtc_skips_or_fails(monkeypatch):
    monkeypatch.setitem(globals(), "nvrtc", lambda: None)
    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="nvrtc"):
        installed_nvrtc()
    monkeypatch.setenv(REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match=REQUIRE):
        installed_nvrtc()

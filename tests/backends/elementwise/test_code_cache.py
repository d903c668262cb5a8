"""Machine code on disk is loaded only if it is whole, and compiled anew otherwise."""

import os

import numpy as np
import pytest

pytest.importorskip("numba")

from ffnn_gpu.backends.cpu.loops.formulas import run
from ffnn_gpu.backends.elementwise import code_cache, compiled_loop
from ffnn_gpu.backends.elementwise.compiled_loop import CompiledLoop, Loop


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(code_cache, "FOLDER", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def compilations(monkeypatch):
    """Return a list with one entry for each loop that is compiled."""
    made, compile_loop = [], compiled_loop._library
    monkeypatch.setattr(compiled_loop, "_library", lambda *args: (made.append(args), compile_loop(*args))[1])
    return made


def doubled(factor=2):
    loop = Loop.of(np.float32, {"x": "both"}, lambda x: {"x": x * factor})
    x = np.arange(20, dtype=np.float32)
    run(CompiledLoop(loop), 1, 20, x=x)
    np.testing.assert_array_equal(x, factor * np.arange(20, dtype=np.float32))


def test_second_request_loads_the_code(folder, compilations):
    doubled()
    doubled()
    assert len(compilations) == 1
    doubled(3)
    assert len(compilations) == 2
    assert [path.suffix for path in folder.iterdir()] == [code_cache.SUFFIX] * 2


@pytest.mark.parametrize("place", [0, 40, -1])
def test_damaged_code_is_compiled_anew(folder, compilations, place):
    doubled()
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    doubled()
    assert len(compilations) == 2
    doubled()
    assert len(compilations) == 2


def test_truncated_code_is_compiled_anew(folder, compilations):
    doubled()
    (path,) = folder.iterdir()
    for length in (0, 10, 1000):
        path.write_bytes(path.read_bytes()[:length])
        doubled()
    assert len(compilations) == 4


def test_folder_that_cannot_be_written_only_costs_time(folder, compilations):
    folder.write_text("a file")
    doubled()
    doubled()
    assert len(compilations) == 2


def test_files_used_last_are_kept(folder, compilations, monkeypatch):
    monkeypatch.setattr(code_cache, "MOST", 3)
    for factor in (2, 3, 4):
        doubled(factor)
    for age, path in enumerate(sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)):
        os.utime(path, (10 + age, 10 + age))
    doubled(2)  # used now
    for factor in (5, 6):
        doubled(factor)
    assert len(list(folder.iterdir())) == 3
    made = len(compilations)
    doubled(2)
    assert len(compilations) == made
    doubled(3)
    assert len(compilations) == made + 1


def test_name_depends_on_the_processor_and_the_versions(monkeypatch):
    names = {code_cache.name_of("a"), code_cache.name_of("b")}
    monkeypatch.setattr(code_cache.numba, "__version__", "0")
    names.add(code_cache.name_of("a"))
    monkeypatch.setattr(code_cache.llvmlite, "__version__", "0")
    names.add(code_cache.name_of("a"))
    codegen = type(code_cache.cpu_target.target_context.codegen())
    monkeypatch.setattr(codegen, "magic_tuple", lambda self: ("another",))
    names.add(code_cache.name_of("a"))
    assert len(names) == 5

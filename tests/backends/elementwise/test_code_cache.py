"""Machine code on disk is loaded only if it is whole, and compiled anew otherwise."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from ffnn_gpu.backends.elementwise import code_cache, compiled_loop
from ffnn_gpu.backends.elementwise.compiled_loop import CompiledLoop, Loop
from tests.backends.elementwise.run import run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(code_cache, "FOLDER", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def compilations(monkeypatch):
    """Return a list with one entry for each loop that is compiled."""
    made, compile_loop = [], compiled_loop._compile
    monkeypatch.setattr(compiled_loop, "_compile", lambda *args: (made.append(args), compile_loop(*args))[1])
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
    monkeypatch.setattr(code_cache.llvmlite, "__version__", "0")
    names.add(code_cache.name_of("a"))
    monkeypatch.setattr(code_cache.machine_code, "processor", lambda: ("another", ""))
    names.add(code_cache.name_of("a"))
    assert len(names) == 4


def test_code_is_not_kept_if_a_source_has_changed_since(folder, compilations, monkeypatch):
    """An update under a running process must not leave old code under the name of the new sources."""
    monkeypatch.setattr(code_cache, "_digest_of_sources", lambda: "another")
    doubled()
    assert not folder.exists()


def test_code_that_llvm_cannot_read_is_compiled_anew(folder, compilations):
    doubled()
    (path,) = folder.iterdir()
    body = b"no machine code"
    path.write_bytes(hashlib.sha256(body).digest() + body)
    doubled()
    assert len(compilations) == 2


def test_folder_is_the_chosen_one_or_one_that_can_be_written(monkeypatch, tmp_path):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert code_cache._folder() == Path(code_cache.__file__).with_name("__pycache__")
    monkeypatch.setattr(code_cache.os, "access", lambda *args: False)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert code_cache._folder() == tmp_path / "ffnn_gpu"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen"))
    assert code_cache._folder() == tmp_path / "chosen" / "ffnn_gpu"


@pytest.mark.parametrize("room", ["elementwise", "cpu/loops", "cpu/recording", "reference"])
def test_name_depends_on_every_source(room, monkeypatch, tmp_path):
    assert any(folder.match(room) and any(folder.glob("*.py")) for folder in code_cache.SOURCES)
    for other in code_cache.SOURCES:
        shutil.copytree(other, tmp_path / other.relative_to(code_cache.BACKENDS))
    copies = tuple(tmp_path / other.relative_to(code_cache.BACKENDS) for other in code_cache.SOURCES)
    monkeypatch.setattr(code_cache, "SOURCES", copies)
    digest = code_cache._digest_of_sources
    before = digest()
    changed = next(iter(sorted((tmp_path / room).glob("*.py"))))
    changed.write_text(changed.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert digest() != before


PROGRAM = """
import sys
import numpy as np
from ffnn_gpu.backends.cpu.compiled_backend import CompiledBackend
for dtype in sys.argv[1:]:
    z = np.arange(6, dtype=dtype).reshape(2, 3)
    CompiledBackend().softmax_backward(z, np.ones_like(z))
    np.testing.assert_array_equal(z, [[-3, -2, -1], [-9, -8, -7]])
"""


def test_processes_that_compile_for_two_types_at_once_leave_code_for_both(tmp_path):
    """Numba's own cache gave both types one file, so each later process read code of the other type."""
    room = Path(code_cache.__file__).parents[2]
    shutil.copytree(room, tmp_path / "ffnn_gpu", ignore=shutil.ignore_patterns("__pycache__"))
    setting = {**os.environ, "PYTHONPATH": str(tmp_path)}
    starts = [[sys.executable, "-c", PROGRAM, dtype] for dtype in ("float32", "float64") * 2]
    running = [subprocess.Popen(start, env=setting, cwd=tmp_path) for start in starts]
    assert [each.wait() for each in running] == [0] * 4
    subprocess.run(
        [sys.executable, "-c", PROGRAM, "float64", "float32"], env=setting, cwd=tmp_path, check=True
    )

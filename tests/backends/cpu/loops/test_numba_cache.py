"""Code that Numba compiled is deleted when a source file has changed."""

import pytest

from ffnn_gpu.backends.cpu.loops import numba_cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folders, also = (
        (tmp_path / "loops", tmp_path / "recording"),
        (tmp_path / "step_control.py", tmp_path / "philox.py"),
    )
    for room in folders:
        (room / "__pycache__").mkdir(parents=True)
    for path in (*(room / name for room in folders for name in ("threads.py", "chunks.py")), *also):
        path.write_text("x = 1\n", encoding="utf-8")
    monkeypatch.setattr(numba_cache, "FOLDERS", folders)
    monkeypatch.setattr(numba_cache, "ALSO", also)
    return tmp_path


def compiled_files(folder):
    names = ("threads.work.nbi", "threads.work.1.nbc", "threads.cpython-312.pyc")
    made = [folder / room / "__pycache__" / name for room in ("loops", "recording") for name in names]
    for path in made:
        path.touch()
    return made


@pytest.mark.parametrize(
    "changed", ["loops/threads.py", "recording/chunks.py", "step_control.py", "philox.py"]
)
def test_change_of_any_source_deletes_the_compiled_code(folder, changed):
    numba_cache.delete_outdated()
    compiled = compiled_files(folder)
    (folder / changed).write_text("x = 2\n", encoding="utf-8")
    numba_cache.delete_outdated()
    assert [path.exists() for path in compiled] == [False, False, True] * 2


def test_unchanged_sources_leave_the_compiled_code(folder):
    numba_cache.delete_outdated()
    compiled = compiled_files(folder)
    numba_cache.delete_outdated()
    assert all(path.exists() for path in compiled)


def test_read_only_folder_is_skipped(folder, monkeypatch):
    def refused(*args, **named):
        raise PermissionError

    monkeypatch.setattr(type(folder), "write_text", refused)
    numba_cache.delete_outdated()


def test_all_listed_sources_exist():
    assert all(path.is_file() for path in numba_cache.ALSO) and all(
        any(f.glob("*.py")) for f in numba_cache.FOLDERS
    )

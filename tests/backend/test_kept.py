"""What Numba kept of other sources is forgotten."""

import pytest

from ffnn_gpu.backend.compiled import kept


@pytest.fixture
def folder(tmp_path, monkeypatch):
    compiled = tmp_path / "compiled"
    (compiled / "__pycache__").mkdir(parents=True)
    for path in (compiled / "team.py", compiled / "parts.py", *(tmp_path / name for name in kept.ALSO)):
        path.write_text("x = 1\n", encoding="utf-8")
    monkeypatch.setattr(kept, "FOLDER", compiled)
    return compiled


def files(folder):
    made = [folder / "__pycache__" / name for name in ("team.work.nbi", "team.work.1.nbc", "team.cpython-312.pyc")]
    for path in made: path.touch()
    return made


@pytest.mark.parametrize("changed", ["compiled/team.py", *kept.ALSO])
def test_change_of_any_source_forgets_what_was_compiled(folder, changed):
    kept.forget_others()
    compiled = files(folder)
    (folder.parent / changed).write_text("x = 2\n", encoding="utf-8")
    kept.forget_others()
    assert [path.exists() for path in compiled] == [False, False, True]


def test_same_sources_keep_it(folder):
    kept.forget_others()
    compiled = files(folder)
    kept.forget_others()
    assert all(path.exists() for path in compiled)


def test_folder_that_cannot_be_written_is_left(folder, monkeypatch):
    def refused(*args, **named): raise PermissionError

    monkeypatch.setattr(type(folder), "write_text", refused)
    kept.forget_others()

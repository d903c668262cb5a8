import errno
import os

import pytest

from ffnn_gpu.checkpoints.atomic_file import half_of, write
from tests.checkpoints.crash_points import count_calls, crashes, is_killed

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs fork")


def test_file_comes_back_as_written_and_nothing_lies_beside_it(tmp_path):
    for content in (b"old", b"new\r\n", b""):
        write(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content and os.listdir(tmp_path) == ["file"]


def test_equal_bytes_are_not_written_again(tmp_path):
    write(tmp_path / "file", b"x")
    half_of(tmp_path / "file").write_bytes(b"of a killed writer")
    before = os.stat(tmp_path / "file")
    write(tmp_path / "file", b"x")
    after = os.stat(tmp_path / "file")
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns) and os.listdir(
        tmp_path
    ) == ["file"]


@POSIX
def test_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    write(tmp_path / "disk" / "real", b"old")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "real").read_bytes() == b"new"


@POSIX
@pytest.mark.parametrize("first", [True, False])
def test_crash_between_any_two_system_calls_leaves_the_old_or_the_new_bytes(tmp_path, monkeypatch, first):
    outcomes = []
    for crash in crashes(monkeypatch, is_killed):
        path = tmp_path / str(len(outcomes)) / "file"
        path.parent.mkdir()
        if not first:
            write(path, b"old")
        crash(lambda path=path: write(path, b"newer"))
        outcomes.append(path.read_bytes() if path.exists() else None)
        write(path, b"newest")
        assert path.read_bytes() == b"newest" and os.listdir(path.parent) == ["file"]
    assert len(outcomes) > 4 and set(outcomes) == {None if first else b"old", b"newer"}


def test_failure_of_any_system_call_leaves_the_old_bytes_or_the_new_and_says_which(tmp_path, monkeypatch):
    told = []
    for fail_at in range(1, 60):
        path = tmp_path / str(fail_at) / "file"
        path.parent.mkdir()
        write(path, b"old")

        def fail(k, name, stop=fail_at):
            if k == stop:
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            seen = count_calls(patch, fail)
            failure = None
            try:
                write(path, b"newer")
            except OSError as error:
                failure = error
        if len(seen) < fail_at:
            break
        assert failure.errno == errno.ENOSPC and str(path) in str(failure)
        told.append("before stays" in str(failure))
        assert told[-1] != ("is the new one" in str(failure)) and path.read_bytes() == (
            b"old" if told[-1] else b"newer"
        )
    assert fail_at < 59 and {*told} == {True, False}

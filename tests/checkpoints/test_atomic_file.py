"""A file is replaced atomically: after a crash or an error it has the old or the new bytes."""

import errno
import os
import random
import stat
import subprocess
import sys
import time

import pytest

from ffnn_gpu.checkpoints.atomic_file import leftovers, sweep, write
from tests.checkpoints.crash_points import count_calls, crashes, dies, is_killed

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs fork, kill and resource")
LIVING, OTHER_HALF = os.getppid(), "0123abcd"


@pytest.fixture
def quick(monkeypatch):
    """Skip fsync in tests that do not depend on it."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def dead_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(60)
    return child.pid


def test_file_is_read_as_written_and_no_other_file_is_left(tmp_path):
    for content in (b"old", b"new\r\n", b""):
        write(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content and os.listdir(tmp_path) == ["file"]


def test_pieces_are_written_one_after_the_other(tmp_path):
    for pieces in ([], [b""], [b"a", memoryview(b"bcd"), b"", b"e"]):
        write(tmp_path / "file", *pieces)
        assert (tmp_path / "file").read_bytes() == b"".join(pieces)


NAMES = ["with space", "run[1]", "*", "a.1-0123abcd.half", ".hidden", "ünïcode", "x" * 200, "-"]


@pytest.mark.parametrize("name", NAMES)
def test_file_may_have_any_name(quick, tmp_path, name):
    for content in (b"old", b"new"):
        write(tmp_path / name, content)
        assert (tmp_path / name).read_bytes() == content and os.listdir(tmp_path) == [name]


def test_equal_bytes_are_not_written_again(tmp_path):
    write(tmp_path / "file", b"xy")
    (tmp_path / f".file.{dead_pid()}-{OTHER_HALF}.half").write_bytes(b"of a killed writer")
    before = os.stat(tmp_path / "file")
    write(tmp_path / "file", b"x", b"y")
    after = os.stat(tmp_path / "file")
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert os.listdir(tmp_path) == ["file"]


@POSIX
def test_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    write(tmp_path / "disk" / "real", b"old")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "real").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["disk", "link"] and os.listdir(tmp_path / "disk") == ["real"]


@POSIX
def test_read_only_file_is_replaced_and_a_folder_is_not(tmp_path):
    write(tmp_path / "file", b"old")
    (tmp_path / "file").chmod(0o400)
    write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="the file was not changed"):
        write(tmp_path / "folder", b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


# ---------------------------------------------------------------------- several writers


def test_only_temporary_files_of_dead_writers_are_removed(tmp_path):
    dead = dead_pid()
    swept = [f".file.{dead}-{OTHER_HALF}.half", f".file.{os.getpid()}-{OTHER_HALF}.half"]
    kept = [
        f".file.{LIVING}-{OTHER_HALF}.half",
        f".other.{dead}-{OTHER_HALF}.half",
        f".file1.{dead}-{OTHER_HALF}.half",
        f".file.{dead}-mine.half",
        f"file.{dead}-{OTHER_HALF}.half",
        ".file.half",
    ]
    for name in swept + kept:
        (tmp_path / name).write_bytes(b"x")
    assert sorted(path.name for path in leftovers(tmp_path / "file")) == sorted(swept)
    write(tmp_path / "file", b"new")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "file"])


def test_sweep_removes_temporary_files_of_dead_writers_of_every_file(tmp_path):
    dead = dead_pid()
    swept = [f".{name}.{dead}-{OTHER_HALF}.half" for name in ("file", "other.json", "two\nlines")]
    kept = [f".file.{LIVING}-{OTHER_HALF}.half", f"file.{dead}-{OTHER_HALF}.half", "file", ".file.half"]
    for name in swept + kept:
        (tmp_path / name).write_bytes(b"x")
    sweep(tmp_path, tmp_path / "missing")
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


WRITER = """
import sys
from pathlib import Path
from ffnn_gpu.checkpoints import atomic_file
path, start = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
for k in range(start, sys.maxsize, 2):
    atomic_file.write(path, str(k).zfill(9).encode(), bytes([k % 256]) * 20_000)
"""


def started(path, start=1):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path, str(start)], stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"ready\n"
    return writer


def stop(writer):
    writer.kill()
    writer.wait(60)
    writer.stdout.close()


def number_of(path):
    """Assert that the file is whole; return the number of its write."""
    content = path.read_bytes()
    number = int(content[:9])
    assert content[9:] == bytes([number % 256]) * 20_000
    return number


def test_file_that_two_processes_write_at_a_time_is_always_whole(tmp_path):
    writers, seen = [started(tmp_path / "file", k) for k in (1, 2)], set()
    try:
        end = time.monotonic() + 20
        while len({number % 2 for number in seen}) < 2 or len(seen) < 100:
            if (tmp_path / "file").exists():
                seen.add(number_of(tmp_path / "file"))
            assert time.monotonic() < end and all(writer.poll() is None for writer in writers)
    finally:
        for writer in writers:
            stop(writer)
    write(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"]


@POSIX
def test_kill_at_a_random_time_leaves_a_whole_file(tmp_path):
    path, rng, latest = tmp_path / "file", random.Random(1), 0
    for _ in range(9):
        writer = started(path)
        time.sleep(rng.uniform(0.01, 0.15))
        stop(writer)
        if path.exists():
            latest = max(latest, number_of(path))
    assert latest > 1
    write(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


# ---------------------------------------------------------------------- failures and crashes


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


def test_two_crashes_in_a_row_never_restore_an_older_file(tmp_path, monkeypatch, quick):
    seen, number = set(), 0
    for crash in crashes(monkeypatch, dies):
        once = tmp_path / f"once {number}" / "file"
        once.parent.mkdir()
        write(once, b"1")
        crash(lambda once=once: write(once, b"2"))
        before = once.read_bytes()
        for again in crashes(monkeypatch, dies):
            number += 1
            twice = tmp_path / f"twice {number}" / "file"
            twice.parent.mkdir()
            for entry in once.parent.iterdir():
                (twice.parent / entry.name).write_bytes(entry.read_bytes())
            again(lambda twice=twice: write(twice, b"3"))
            assert twice.read_bytes() in (before, b"3") and len(os.listdir(twice.parent)) <= 2
            seen.add((before, twice.read_bytes()))
            write(twice, b"4")
            assert twice.read_bytes() == b"4" and os.listdir(twice.parent) == ["file"]
    assert seen == {(b"1", b"1"), (b"1", b"3"), (b"2", b"2"), (b"2", b"3")}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_error_after_a_failed_system_call_says_whether_the_file_was_replaced(
    tmp_path, monkeypatch, quick, number
):
    unchanged = []
    for fail_at in range(1, 60):
        path = tmp_path / str(fail_at) / "file"
        path.parent.mkdir()
        write(path, b"old")

        def fail(k, name, stop=fail_at):
            if k == stop:
                raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            seen = count_calls(patch, fail)
            failure = None
            try:
                write(path, b"newer")
            except OSError as error:
                failure = error
        if len(seen) < fail_at:
            break
        # Some calls may fail without an error, such as creating a folder that exists.
        if failure is not None:
            assert failure.errno == number and str(path) in str(failure)
            unchanged.append("was not changed" in str(failure))
            assert unchanged[-1] != ("was replaced" in str(failure))
        assert path.read_bytes() == (b"old" if failure and unchanged[-1] else b"newer")
    assert fail_at < 59 and unchanged == sorted(unchanged, reverse=True) and {*unchanged} == {True, False}


def test_interrupt_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    write(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_file_is_synced_to_the_disk_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    seen = count_calls(monkeypatch, lambda number, name: None)
    write(tmp_path / "file", b"a", b"b")
    replaced = seen.index("replace")
    assert replaced > max(i for i, name in enumerate(seen) if name == "write a file")
    if os.name == "posix":
        # The file is synced before the replacement, the folder after it.
        assert [i < replaced for i, name in enumerate(seen) if name == "fsync"] == [True, False]


@POSIX
def test_write_after_an_unconfirmed_one_confirms_it(tmp_path, monkeypatch):
    synced = []

    def fsync(handle):
        synced.append(stat.S_ISDIR(os.fstat(handle).st_mode))
        if len(synced) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="was replaced, but the disk has not confirmed it"):
        write(tmp_path / "file", b"x")
    write(tmp_path / "file", b"x")
    assert synced == [False, True, True]


@POSIX
def test_error_after_a_write_that_changed_nothing_does_not_claim_a_replacement(tmp_path, monkeypatch):
    write(tmp_path / "file", b"x")

    def fsync(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="holds these bytes already, but the disk has not confirmed it"):
        write(tmp_path / "file", b"x")


@POSIX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everywhere")
def test_writing_to_a_read_only_folder_raises_an_error(tmp_path):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o500)
    try:
        with pytest.raises(OSError, match="Permission denied; the file was not changed"):
            write(tmp_path / "locked" / "file", b"x")
    finally:
        (tmp_path / "locked").chmod(0o700)

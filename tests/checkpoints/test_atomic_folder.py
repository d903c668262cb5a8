import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
import tracemalloc

import pytest

from ffnn_gpu.checkpoints import atomic_folder, folder_swap
from ffnn_gpu.checkpoints.atomic_folder import exists, read, write
from ffnn_gpu.errors import CheckpointCorruptError, CheckpointError
from tests.checkpoints.crash_points import count_calls, crashes, dies, is_killed

OLD = {"a.bin": bytes(range(64)), "b.bin": b"old" * 5}, {"number": 1, "nested": {"x": [1.5, None, "ü"]}}
NEW = {"a.bin": bytes(range(64, 0, -1)), "b.bin": b"new" * 9}, {"number": 2}
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs fork, kill and resource")


def content(path):
    files, state = read(path)
    return files, {key: value for key, value in state.items() if key != "bytes"}


def require_old_or_new(path):
    assert content(path) in (OLD, NEW)


def dead_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(60)
    return child.pid


def strays(path):
    return sorted(entry.name for entry in path.parent.iterdir() if entry != path)


@pytest.fixture
def quick(monkeypatch):
    """No waiting for the disk, where that is not what is tested."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def without_exchange(monkeypatch):
    monkeypatch.setattr(folder_swap, "_exchange", lambda a, b: False)


# ---------------------------------------------------------------------- writing and reading


@pytest.mark.parametrize("exchange", [True, False])
def test_folder_comes_back_as_written_and_nothing_lies_beside_it(quick, tmp_path, monkeypatch, exchange):
    if not exchange:
        without_exchange(monkeypatch)
    path = tmp_path / "some" / "new" / "folder"
    assert not exists(path)
    for wanted in (OLD, NEW, OLD):
        write(path, *wanted)
        assert exists(path) and content(path) == wanted and not strays(path)
    write(path, {"a.bin": b""}, {})
    assert content(path) == ({"a.bin": b""}, {}) and sorted(os.listdir(path)) == ["a.bin", "state.json"]


NAMES = ["with space", "run[1]", "*", "a.new-1-b", ".hidden", "ünïcode", "x" * 200, "-", "state.json"]


@pytest.mark.parametrize("name", NAMES)
def test_folder_may_have_any_name(quick, tmp_path, name):
    path = tmp_path / name
    for wanted in (OLD, NEW):
        write(path, *wanted)
        assert content(path) == wanted and not strays(path)


def test_empty_folder_is_filled(tmp_path):
    (tmp_path / "run").mkdir()
    write(tmp_path / "run", *NEW)
    assert content(tmp_path / "run") == NEW


@POSIX
def test_link_to_a_folder_stays_a_link(tmp_path):
    write(tmp_path / "disk" / "real", *OLD)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
    write(tmp_path / "link", *NEW)
    assert (tmp_path / "link").is_symlink() and content(tmp_path / "disk" / "real") == content(
        tmp_path / "link"
    ) == NEW
    assert strays(tmp_path / "link") == ["disk"] and not strays(tmp_path / "disk" / "real")


@pytest.mark.parametrize("exchange", [True, False])
def test_what_somebody_else_put_into_the_folder_survives(tmp_path, monkeypatch, exchange):
    if not exchange:
        without_exchange(monkeypatch)
    path = tmp_path / "run"
    write(path, *OLD)
    (path / "notes.txt").write_text("mine")
    (path / "plots").mkdir()
    assert content(path) == OLD
    write(path, {"a.bin": b"1"}, {})
    assert (
        (path / "notes.txt").read_text() == "mine"
        and (path / "plots").is_dir()
        and not (path / "b.bin").exists()
    )


def alone(path):
    path.write_text("a file")


def foreign(path):
    path.mkdir()
    (path / "thesis.txt").write_text("three years of work")


def foreign_with_state(path):
    foreign(path)
    (path / "state.json").write_text('{"somebody": "else"}')


def foreign_state_alone(path):
    path.mkdir()
    (path / "state.json").write_text('{"somebody": "else"}')


def foreign_with_broken_state(path):
    foreign(path)
    (path / "state.json").write_bytes(b"\xff{")


def folder_called_state(path):
    (path / "state.json").mkdir(parents=True)


@pytest.mark.parametrize(
    "make",
    [alone, foreign, foreign_with_state, foreign_state_alone, foreign_with_broken_state, folder_called_state],
)
def test_what_is_no_checkpoint_is_left_alone(quick, tmp_path, make):
    path = tmp_path / "precious"
    make(path)
    before = sorted((p.name, p.is_dir() or p.read_bytes()) for p in [path, *path.rglob("*")])
    with pytest.raises(CheckpointError, match="not a checkpoint; it is left alone"):
        write(path, *NEW)
    assert sorted((p.name, p.is_dir() or p.read_bytes()) for p in [path, *path.rglob("*")]) == before
    assert not strays(path)


def test_damaged_checkpoint_may_be_overwritten(tmp_path):
    write(tmp_path / "run", *OLD)
    (tmp_path / "run" / "state.json").write_bytes(b"damaged")
    write(tmp_path / "run", *NEW)
    assert content(tmp_path / "run") == NEW


@pytest.mark.parametrize("make", [lambda path: None, alone, foreign, lambda path: path.mkdir()])
def test_reading_what_is_no_checkpoint_says_so(tmp_path, make):
    make(tmp_path / "run")
    assert not exists(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"run is not a checkpoint: it has no state\.json"):
        read(tmp_path / "run")


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x"])
def test_state_that_json_does_not_have_leaves_the_old_folder(tmp_path, value):
    write(tmp_path / "run", *OLD)
    with pytest.raises(TypeError):
        write(tmp_path / "run", NEW[0], {"x": value})
    assert content(tmp_path / "run") == OLD and not strays(tmp_path / "run")


# ---------------------------------------------------------------------- damage


def test_every_truncation_and_a_flip_in_every_byte_are_noticed(tmp_path):
    path = tmp_path / "run"
    write(path, *OLD)
    for file in list(path.iterdir()):
        whole = file.read_bytes()
        damaged = [whole[:n] for n in range(len(whole))] + [
            whole + b"\0",
            b"\0" + whole,
            whole[::-1],
            whole + whole,
        ]
        for i in range(len(whole)):
            for bit in range(8) if len(whole) < 100 else [i % 8]:
                damaged.append(whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :])
        for bad in damaged:
            file.write_bytes(bad)
            with pytest.raises(CheckpointCorruptError):
                read(path)
        file.write_bytes(whole)
    assert content(path) == OLD


def test_missing_and_exchanged_files_are_noticed(tmp_path):
    path = tmp_path / "run"
    write(path, *OLD)
    os.rename(path / "a.bin", path / "c.bin")
    with pytest.raises(CheckpointCorruptError, match=r"a\.bin is missing"):
        read(path)
    os.rename(path / "b.bin", path / "a.bin")
    os.rename(path / "c.bin", path / "b.bin")
    with pytest.raises(CheckpointCorruptError):
        read(path)


def sealed(state):
    """Bytes of a state.json whose checksum is right, whatever it says."""
    sums = state.get("sha256", {})
    own = atomic_folder._digest(atomic_folder._dump(state)) if isinstance(sums, dict) else ""
    return atomic_folder._dump(
        state | {"sha256": sums | {"state.json": own}} if isinstance(sums, dict) else state
    )


DIGEST = atomic_folder._digest(b"secret")
JSON = {
    "nothing": b"", "null": b"null", "list": b"[]", "number": b"1", "text": b'"x"', "object": b"{}", "NaN": b"NaN",
    "deep list": b"[" * 200_000 + b"]" * 200_000, "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "unclosed": b'{"sha256": {', "huge number": b'{"sha256": ' + b"9" * 10_000 + b"}", "not text": b"\xff\xfe\x00",
    "zeros": bytes(5000), "sums as list": b'{"sha256": []}', "sums as text": b'{"sha256": "state.json"}',
    "no sizes": sealed({"sha256": {"a.bin": DIGEST}}),
    "sizes as list": sealed({"sha256": {"a.bin": DIGEST}, "bytes": [6]}),
    "size as text": sealed({"sha256": {"a.bin": DIGEST}, "bytes": {"a.bin": "many"}}),
    "negative size": sealed({"sha256": {"a.bin": DIGEST}, "bytes": {"a.bin": -5}}),
    "infinite size": sealed({"sha256": {"a.bin": DIGEST}, "bytes": {"a.bin": float("inf")}}),
    "huge size": sealed({"sha256": {"a.bin": "0" * 64}, "bytes": {"a.bin": 2**60}}),
    "file elsewhere": sealed({"sha256": {"../secret": DIGEST}, "bytes": {"../secret": 6}}),
    "folder as file": sealed({"sha256": {"..": DIGEST}, "bytes": {"..": 6}}),
    "endless file": sealed({"sha256": {"/dev/zero": DIGEST}, "bytes": {"/dev/zero": 2**60}}),
}  # fmt: skip


@pytest.mark.parametrize("kind", JSON)
def test_malformed_state_is_an_error_of_its_own_in_little_memory(quick, tmp_path, kind):
    path = tmp_path / "run"
    write(path, *OLD)
    (tmp_path / "secret").write_bytes(b"secret")
    (path / "state.json").write_bytes(JSON[kind])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointCorruptError):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_random_bytes_as_state_are_noticed(tmp_path):
    path, rng = tmp_path / "run", random.Random(0)
    write(path, *OLD)
    whole = (path / "state.json").read_bytes()
    for _ in range(300):
        noise = bytearray(whole) if rng.random() < 0.7 else bytearray(rng.randbytes(rng.randrange(300)))
        for _ in range(rng.randrange(1, 5)):
            start = rng.randrange(len(noise) + 1)
            noise[start : start + rng.randrange(6)] = rng.choice(
                [rng.randbytes(3), b"{", b"}", b'"', b"[", b"1e9", b","]
            )
        if bytes(noise) == whole:
            continue
        (path / "state.json").write_bytes(noise)
        with pytest.raises(CheckpointCorruptError):
            read(path)


def test_state_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    write(tmp_path / "run", *OLD)
    monkeypatch.setattr(atomic_folder, "LARGEST_INDEX", 100)
    with pytest.raises(CheckpointCorruptError, match="longer than the 100 bytes"):
        read(tmp_path / "run")


# ---------------------------------------------------------------------- failures and crashes


@POSIX
@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_crash_between_any_two_system_calls_leaves_the_old_or_the_new(
    tmp_path, monkeypatch, quick, exchange, first
):
    if not exchange:
        without_exchange(monkeypatch)
    outcomes = []
    for crash in crashes(monkeypatch, is_killed):
        path = tmp_path / str(len(outcomes)) / "run"
        path.parent.mkdir()
        if not first:
            write(path, *OLD)
        crash(lambda path=path: write(path, *NEW))
        if first and not exists(path):
            outcomes.append("none")
        else:
            got = content(path)
            assert got == NEW or (got == OLD and not first)
            outcomes.append("new" if got == NEW else "old")
        write(path, *NEW)
        assert content(path) == NEW and not strays(path)  # and the orphans are swept
    assert len(outcomes) > 8 and set(outcomes) == ({"none", "new"} if first else {"old", "new"})


@pytest.mark.parametrize("exchange", [True, False])
def test_two_crashes_in_a_row_lose_neither_the_newest_nor_the_files_of_others(
    tmp_path, monkeypatch, quick, exchange
):
    if not exchange:
        without_exchange(monkeypatch)

    def save(folder, number):
        write(folder / "run", {f"{number}.bin": b"x"}, {"number": number})

    def newest(folder):
        files, state = read(folder / "run")
        assert [*files] == [f"{state['number']}.bin"] and [
            p.read_text() for p in folder.rglob("notes.txt")
        ] == ["mine"]
        return state["number"]

    save(tmp_path / "start", 1)
    (tmp_path / "start" / "run" / "notes.txt").write_text("mine")
    seen = set()
    for crash in crashes(monkeypatch, dies):
        shutil.copytree(tmp_path / "start", tmp_path / "once")
        crash(lambda: save(tmp_path / "once", 2))
        before = newest(tmp_path / "once")
        for again in crashes(monkeypatch, dies):
            twice = tmp_path / "twice"
            shutil.copytree(tmp_path / "once", twice)
            again(lambda twice=twice: save(twice, 3))
            assert newest(twice) in (before, 3) and len(strays(twice / "run")) <= (1 if exchange else 2)
            seen.add((before, newest(twice)))
            save(twice, 4)
            assert (
                newest(twice) == 4 and not strays(twice / "run") and (twice / "run" / "notes.txt").is_file()
            )
            shutil.rmtree(twice)
        shutil.rmtree(tmp_path / "once")
    assert seen == {(1, 1), (1, 3), (2, 2), (2, 3)}


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_failure_of_any_system_call_is_an_error_that_says_what_is_there(
    tmp_path, monkeypatch, quick, exchange, number
):
    if not exchange:
        without_exchange(monkeypatch)
    told = []
    for fail_at in range(1, 100):
        path = tmp_path / str(fail_at) / "run"
        write(path, *OLD)
        (path / "notes.txt").write_text("mine")

        def fail(k, name, stop=fail_at):
            if k == stop:
                raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            seen = count_calls(patch, fail)
            failure = None
            try:
                write(path, *NEW)
            except CheckpointError as error:
                failure = str(error)
        if failure is None:
            assert content(path) == NEW  # what failed was cleaning up
        else:
            assert os.strerror(number) in failure
            old, new = (
                "cannot write" in failure and "before stays" in failure,
                "is the new checkpoint" in failure,
            )
            assert old != new and content(path) == (OLD if old else NEW)
            assert (path / "state.json").is_file()  # in its place, not only beside it
            told.append(old)
        assert [file.read_text() for file in path.parent.rglob("notes.txt")] == ["mine"]
        write(path, *NEW)
        assert content(path) == NEW and not strays(path) and (path / "notes.txt").read_text() == "mine"
        if len(seen) < fail_at:
            break
    assert fail_at < 99 and told == sorted(told, reverse=True) and {*told} == {True, False}


@pytest.mark.parametrize("exchange", [True, False])
def test_files_of_others_that_cannot_be_moved_stay_beside_and_the_error_says_where(
    tmp_path, monkeypatch, quick, exchange
):
    if not exchange:
        without_exchange(monkeypatch)
    path, rename = tmp_path / "run", os.rename
    write(path, *OLD)
    (path / "notes.txt").write_text("mine")

    def stubborn(a, b):
        if os.path.basename(a) == "notes.txt":
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(a, b)

    monkeypatch.setattr(os, "rename", stubborn)
    with pytest.raises(
        CheckpointError, match=r"run is the new checkpoint; files in .* could not be moved.*denied"
    ):
        write(path, *NEW)
    (kept,) = strays(path)
    assert content(path) == NEW and (tmp_path / kept / "notes.txt").read_text() == "mine"
    monkeypatch.setattr(os, "rename", rename)
    write(path, *NEW)
    assert (path / "notes.txt").read_text() == "mine" and not strays(path)


def test_two_files_of_one_name_are_both_kept(tmp_path):
    path = tmp_path / "run"
    write(path, *OLD)
    (path / "notes.txt").write_text("first")
    shutil.copytree(path, tmp_path / f".run.new-{dead_pid()}-aa")  # as a kill after an exchange leaves it
    (path / "notes.txt").write_text("second")
    write(path, *NEW)
    assert sorted(file.read_text() for file in path.glob("notes.txt*")) == ["first", "second"]


def test_of_several_folders_moved_aside_the_newest_is_read(tmp_path, monkeypatch, quick):
    """Two can be only where the number of a killed writer is another process's by now."""
    without_exchange(monkeypatch)
    write(tmp_path / "start" / "run", *OLD)
    for name in (
        f".run.old-{os.getppid()}-9.ff",
        f".run.old-{os.getppid()}-ffffffff",
    ):  # the second of an earlier version
        shutil.copytree(tmp_path / "start" / "run", tmp_path / "start" / name)
    for number, crash in enumerate(crashes(monkeypatch, dies)):
        shutil.copytree(tmp_path / "start", tmp_path / str(number))
        path = tmp_path / str(number) / "run"
        write(path, *NEW)
        crash(lambda path=path: write(path, {}, {"number": 3}))
        assert content(path) in (NEW, ({}, {"number": 3}))
    path = tmp_path / "run"
    write(path, *NEW)
    os.rename(path, tmp_path / ".run.old-1-10.aa")
    shutil.copytree(tmp_path / "start" / "run", tmp_path / ".run.old-1-9.ff")
    assert content(path) == NEW


WRITER = """
import sys
from pathlib import Path
from ffnn_gpu.checkpoints import atomic_folder, folder_swap
path, exchange = Path(sys.argv[1]), sys.argv[2] == "True"
if not exchange:
    folder_swap._exchange = lambda a, b: False
print("ready", flush=True)
k = 0
while True:
    k += 1
    atomic_folder.write(path, {"a.bin": bytes([k % 256]) * 20_000, "b.bin": str(k).encode()}, {"number": k})
"""


@POSIX
@pytest.mark.parametrize("exchange", [True, False])
def test_kill_at_a_random_time_leaves_a_whole_folder(tmp_path, exchange):
    path, rng, latest = tmp_path / "run", random.Random(1), 0
    for _ in range(9):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(exchange)], stdout=subprocess.PIPE
        )
        try:
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.01, 0.15))
        finally:
            writer.kill()
            writer.wait(60)
            writer.stdout.close()
        if not exists(path):
            continue
        files, state = read(path)
        k = state["number"]
        assert files == {"a.bin": bytes([k % 256]) * 20_000, "b.bin": str(k).encode()}
        latest = max(latest, k)
    assert latest > 1
    write(path, *NEW)
    assert content(path) == NEW and not strays(path)


@POSIX
def test_full_disk_leaves_the_old_folder(tmp_path):
    path = tmp_path / "run"
    write(path, *OLD)
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom ffnn_gpu.checkpoints import atomic_folder; from ffnn_gpu import errors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n    atomic_folder.write(Path(sys.argv[1]), {'a.bin': bytes(100_000)}, {})\n"
        "except errors.CheckpointError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=True
    )
    assert "what was there before stays" in done.stdout and done.stderr == ""
    assert content(path) == OLD and not strays(path)


def test_orphans_of_dead_writers_are_swept_and_those_of_living_ones_are_not(tmp_path):
    path = tmp_path / "run"
    write(path, *OLD)
    dead, alive = dead_pid(), os.getppid()
    for name in (
        f".run.new-{dead}-1",
        f".run.old-{dead}-1",
        f".run.new-{alive}-1",
        ".other.new-1-1",
        f".run1.new-{dead}-1",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.bin").write_bytes(b"x")
    write(path, *NEW)
    assert strays(path) == [".other.new-1-1", f".run.new-{alive}-1", f".run1.new-{dead}-1"]


def test_folder_with_a_pattern_as_name_does_not_sweep_its_neighbours(tmp_path):
    dead = dead_pid()
    (tmp_path / f".run1.old-{dead}-1").mkdir()
    write(tmp_path / f".run1.old-{dead}-1", *OLD)
    write(tmp_path / "run[1]", *NEW)
    assert content(tmp_path / "run1") == OLD  # the one moved aside by a killed writer


@pytest.mark.parametrize("writer", ["dead", "alive"])
def test_folder_moved_aside_by_a_killed_writer_is_read_until_there_is_a_new_one(tmp_path, writer):
    pid = dead_pid() if writer == "dead" else os.getpid()
    path = tmp_path / "run"
    write(path, *OLD)
    os.rename(path, tmp_path / f".run.old-{pid}-aa")
    (tmp_path / f".run.new-{pid}-bb").mkdir()
    assert exists(path) and content(path) == OLD
    write(path, *NEW)
    assert content(path) == NEW and not strays(path)


@POSIX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_may_not_be_written_is_an_error(tmp_path):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match="Permission denied"):
            write(tmp_path / "locked" / "run", *NEW)
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_parent_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="cannot write"):
        write(tmp_path / "file" / "run", *NEW)
    assert (tmp_path / "file").read_text() == "x"


def test_interrupt_while_writing_leaves_the_old_folder(tmp_path, monkeypatch):
    write(tmp_path / "run", *OLD)
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "run", *NEW)
    assert content(tmp_path / "run") == OLD and not strays(tmp_path / "run")


def test_everything_reaches_the_disk_before_the_folder_takes_its_place(tmp_path, monkeypatch):
    seen = count_calls(monkeypatch, lambda number, name: None)
    write(tmp_path / "run", *NEW)
    assert seen.index("rename") > max(i for i, name in enumerate(seen) if name == "open a file")
    flushes = [i for i, name in enumerate(seen) if name == "fsync"]
    if os.name == "posix":
        assert len(flushes) == 5  # three files, the folder, its parent
        assert sum(i < seen.index("rename") for i in flushes) == 4


def test_json_of_the_state_is_text_a_person_can_read(tmp_path):
    write(tmp_path / "run", *OLD)
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["number"] == 1 and state["bytes"] == {"a.bin": 64, "b.bin": 15}
    assert set(state["sha256"]) == {"a.bin", "b.bin", "state.json"}

"""Folders of format 1, which earlier versions wrote, are read, and every damage to them is detected."""

import json
import shutil
import tracemalloc
from pathlib import Path

import pytest

import ffnn_gpu as nn
from ffnn_gpu.checkpoints import old_format
from ffnn_gpu.checkpoints.old_format import is_one, read
from ffnn_gpu.errors import CheckpointCorruptError, IncompatibleCheckpointError
from tests.checkpoints.old_folder import aged, sealed

GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoints" / "format-1-inputs-float32"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(GOLDEN / "last", tmp_path / "run")


def test_every_file_of_an_old_folder_is_read(folder):
    arrays, values = read(folder)
    assert is_one(folder) and not is_one(folder.parent)
    assert {"0.W", "optimizer.m", "callback.1.0.W"} <= arrays.keys() and values["state"]["updates"] == 6
    assert values["architecture"]["n_in"] == 3 and values["format_version"] == 1


def test_folder_written_for_tests_equals_one_of_the_old_version(tmp_path):
    network = nn.load(GOLDEN / "exact", "numpy")
    nn.save(network, tmp_path / "exact", extras=nn.load_extras(GOLDEN / "exact"))
    folder = aged(tmp_path / "exact.safetensors")
    (arrays, values), (golden, stored) = read(folder), read(GOLDEN / "exact")
    assert {n: a.tobytes() for n, a in arrays.items()} == {n: a.tobytes() for n, a in golden.items()}
    del values["state"]["versions"], stored["state"]["versions"]
    assert values == stored


def test_every_truncation_and_a_flip_in_every_byte_of_every_file_are_detected(tmp_path, monkeypatch):
    folder, disk = shutil.copytree(GOLDEN / "exact", tmp_path / "run"), {}
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert sorted(whole) == ["model.safetensors", "state.json"]
    stored = old_format._bytes
    monkeypatch.setattr(
        old_format, "_bytes", lambda file, largest: disk.get(file.name) or stored(file, largest)
    )
    for name, content in whole.items():
        damaged = [content[:n] for n in range(1, len(content))] + [content + b"\0", content[::-1]]
        damaged += [content[:i] + bytes([b ^ 1 << i % 8]) + content[i + 1 :] for i, b in enumerate(content)]
        for disk[name] in damaged:
            with pytest.raises(CheckpointCorruptError):
                read(folder)
        del disk[name]
        (folder / name).write_bytes(b"")
        with pytest.raises(CheckpointCorruptError):
            read(folder)
        (folder / name).write_bytes(content)
    read(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("how", ["missing", "a folder", "longer"])
def test_missing_or_changed_file_is_detected(folder, name, how):
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if how == "a folder":
        (folder / name).mkdir()
    if how == "longer":
        (folder / name).write_bytes(content + b"\0")
    with pytest.raises(CheckpointCorruptError, match=name):
        read(folder)


def test_surplus_file_is_ignored(folder):
    before = read(folder)[1]
    (folder / "notes.txt").write_text("mine")
    assert read(folder)[1] == before


def test_other_format_version_is_refused_with_both_numbers(folder):
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_bytes(sealed(state | {"format": 9}))
    with pytest.raises(IncompatibleCheckpointError, match="format version 9; this package reads 1 and 2"):
        nn.load(folder)


DIGEST = old_format._sha256(b"secret")
JSON = {
    "nothing": b"", "null": b"null", "list": b"[]", "number": b"1", "text": b'"x"', "object": b"{}",
    "NaN": b"NaN",
    "deep list": b"[" * 200_000 + b"]" * 200_000, "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "unclosed": b'{"sha256": {', "huge number": b'{"sha256": ' + b"9" * 10_000 + b"}",
    "not text": b"\xff\xfe\x00",
    "zeros": bytes(5000), "sums as list": b'{"sha256": []}', "sums as text": b'{"sha256": "state.json"}',
    "no sizes": sealed({"sha256": {"a.bin": DIGEST}}),
    "no files": sealed({"sha256": {}, "bytes": {}, "format": 1}),
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
def test_malformed_state_raises_corrupt_error_using_little_memory(folder, kind):
    (folder.parent / "secret").write_bytes(b"secret")
    (folder / "a.bin").write_bytes(b"secret")
    (folder / "state.json").write_bytes(JSON[kind])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointCorruptError):
            read(folder)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_too_long_state_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(old_format, "LARGEST_STATE", 100)
    with pytest.raises(CheckpointCorruptError, match="longer than 100 bytes"):
        read(folder)

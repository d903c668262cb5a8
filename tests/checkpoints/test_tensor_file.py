"""A tensor file is valid safetensors, read as written, and any damage to it is detected."""

import io
import json
import os
import random
import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from ffnn_gpu.checkpoints import tensor_file
from ffnn_gpu.checkpoints.tensor_file import BEGINNING, END, START, read, write
from ffnn_gpu.errors import CheckpointCorruptError, CheckpointError

ARRAYS = {
    "0.W": np.arange(6.0).reshape(2, 3),
    "0.b": np.float32([1, 2, 3]),
    "optimizer.m": np.array([True, False]),
}
VALUES = {
    "state": {"number": 1, "nested": {"x": [1.5, None, "ü"]}},
    "architecture": "{}",
    "format_version": 2,
}


def sealed(content):
    """Return content with a valid beginning and a valid digest."""
    content = content.ljust(END)
    content = content[:8] + BEGINNING + content[START:]
    return content[:START] + tensor_file._digest(content) + content[END:]


def with_header(header, data=b""):
    """Return a file with a valid digest and this header: bytes, or a dict without metadata."""
    if not isinstance(header, bytes):
        header = json.dumps({"__metadata__": {"sha256": "0" * 64}} | header, separators=(",", ":")).encode()
    return sealed(len(header).to_bytes(8, "little") + header + data)


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# ---------------------------------------------------------------------- writing and reading


def test_arrays_and_values_are_read_as_written(tmp_path):
    path = tmp_path / "file"
    for arrays, values in ((ARRAYS, VALUES), ({}, {}), (ARRAYS, {})):
        write(path, arrays, values)
        found, stored = read(path)
        assert_equal(found, arrays)
        assert stored == values and os.listdir(tmp_path) == ["file"]


TYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "c8"]


@pytest.mark.parametrize("kind", TYPES)
def test_arrays_of_every_type_and_layout_are_read_as_written(tmp_path, kind):
    a = np.arange(24).reshape(4, 6).astype(kind)
    arrays = {"transposed": a.T, "strided": a[::2, 1::3], "reversed": a[::-1, ::-1],
              "fortran": np.asfortranarray(a), "broadcast": np.broadcast_to(a[0], (3, 6)),
              "scalar": np.array(a[1, 1]), "empty": a[:0]}  # fmt: skip
    write(tmp_path / "file", arrays, {})
    assert_equal(read(tmp_path / "file")[0], arrays)
    swapped = {"big-endian": a.astype(a.dtype.newbyteorder(">"))}
    write(tmp_path / "file", swapped, {})
    assert_equal(read(tmp_path / "file")[0], {"big-endian": a})


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([None]), np.zeros(1, "c16"), np.zeros(1, "f4,i4")]
)
def test_unsupported_type_raises_an_error_and_does_not_change_the_old_file(tmp_path, array):
    write(tmp_path / "file", ARRAYS, VALUES)
    with pytest.raises(
        CheckpointError, match=r"callback\.0\.x has type .*, which a safetensors file cannot hold"
    ):
        write(tmp_path / "file", {"callback.0.x": array}, VALUES)
    assert_equal(read(tmp_path / "file")[0], ARRAYS)


def test_too_long_header_raises_an_error_and_does_not_change_the_old_file(tmp_path, monkeypatch):
    write(tmp_path / "file", ARRAYS, VALUES)
    monkeypatch.setattr(tensor_file, "LARGEST_HEADER", 1000)
    with pytest.raises(
        CheckpointError, match=r"take \d+ bytes of JSON; a safetensors file holds at most 1000"
    ):
        write(tmp_path / "file", {}, {"state": "x" * 1000})
    assert read(tmp_path / "file")[1] == VALUES


def test_other_programs_read_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    write(path, ARRAYS, VALUES)
    assert_equal(safetensors.numpy.load_file(path), ARRAYS)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
        assert sorted(file.keys()) == sorted(ARRAYS)
    assert len(metadata.pop("sha256")) == 64
    assert {name: json.loads(text) for name, text in metadata.items()} == VALUES
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0  # so that the arrays are aligned


def test_equal_content_gives_equal_bytes(tmp_path):
    write(tmp_path / "a", ARRAYS, VALUES)
    write(tmp_path / "b", dict(reversed(ARRAYS.items())), VALUES)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# ---------------------------------------------------------------------- damage


def test_every_truncation_and_every_flipped_bit_is_detected(tmp_path):
    path = tmp_path / "file"
    write(path, ARRAYS, VALUES)
    whole = path.read_bytes()
    damaged = [whole[:n] for n in range(len(whole))]
    damaged += [
        whole + b"\0",
        b"\0" + whole,
        whole[::-1],
        whole + whole,
        whole[:START] + whole[START:END].upper() + whole[END:],
    ]
    for i, byte in enumerate(whole):
        damaged += [whole[:i] + bytes([byte ^ 1 << bit]) + whole[i + 1 :] for bit in range(8)]
    for bad in damaged:
        assert bad != whole
        path.write_bytes(bad)
        with pytest.raises(CheckpointCorruptError, match="damaged"):
            read(path)
    path.write_bytes(whole)
    assert_equal(read(path)[0], ARRAYS)


F4 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
MALFORMED = {
    "nothing": b"", "zeros": bytes(5000), "beginning alone": b"\0" * 8 + BEGINNING,
    "sealed nothing": sealed(b""),
    "header longer than the file": sealed((2**20).to_bytes(8, "little")),
    "endless header": sealed((2**63).to_bytes(8, "little")), "negative header": sealed(b"\xff" * 8),
    "unclosed": with_header(BEGINNING + b"0" * 64),
    "not text": with_header(BEGINNING + b"0" * 64 + b'"},"\xff\xfe"'),
    "deep": with_header(BEGINNING + b"0" * 64 + b'"},"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "metadata that is no text": with_header({"__metadata__": {"sha256": "0" * 64, "x": 1}}),
    "no data": with_header({"x": F4}), "surplus data": with_header({"x": F4}, bytes(9)),
    "huge shape": with_header({"x": F4 | {"shape": [2**60]}}, bytes(8)),
    "huge offsets": with_header({"x": F4 | {"shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(8)),
    "negative shape": with_header({"x": F4 | {"shape": [-1]}}, bytes(8)),
    "backwards": with_header({"x": F4 | {"data_offsets": [8, 0]}}, bytes(8)),
    "overlap": with_header({"x": F4, "y": F4}, bytes(8)),
    "unknown type": with_header({"x": F4 | {"dtype": "F128"}}, bytes(8)),
    "type numpy lacks": with_header({"x": F4 | {"dtype": "BF16", "shape": [4]}}, bytes(8)),
    "shape as text": with_header({"x": F4 | {"shape": "2"}}, bytes(8)),
    "entry as list": with_header({"x": []}),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_file_raises_corrupt_error_using_little_memory(tmp_path, kind):
    (tmp_path / "file").write_bytes(MALFORMED[kind])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointCorruptError, match=r"file (is damaged|is not a checkpoint)"):
            read(tmp_path / "file")
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("beginning", ["foreign", "a checkpoint's"])
def test_long_file_that_is_no_checkpoint_is_refused_without_reading_it_into_memory(tmp_path, beginning):
    path = tmp_path / "file"
    if beginning == "foreign":
        path.write_bytes(safetensors.numpy.save(ARRAYS))
    else:
        write(path, ARRAYS, VALUES)
    os.truncate(path, 2**28)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointCorruptError, match=r"file (is damaged|is not a checkpoint)"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


class Changing(io.FileIO):
    """A file whose last bit another program flips in place after one of its first readings."""

    readings = flip_after = 0

    def read(self, size=-1):
        content = super().read(size)
        type(self).readings += 1
        if self.readings == self.flip_after:
            with open(self.name, "r+b") as same:
                same.seek(-1, os.SEEK_END)
                last = same.read()[0]
                same.seek(-1, os.SEEK_END)
                same.write(bytes([last ^ 1]))
        return content


def test_file_changed_in_place_during_the_reading_is_detected_or_read_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "file"
    monkeypatch.setattr(tensor_file, "open", Changing, raising=False)
    for moment in range(1, 5):
        write(path, ARRAYS, VALUES)
        Changing.readings, Changing.flip_after = 0, moment
        try:
            found, stored = read(path)
        except CheckpointCorruptError:
            continue
        assert stored == VALUES, moment
        assert_equal(found, ARRAYS)


def test_random_bytes_are_detected_and_with_a_valid_digest_read_or_refused(tmp_path):
    path, rng = tmp_path / "file", random.Random(0)
    write(path, ARRAYS, VALUES)
    whole = path.read_bytes()
    for _ in range(300):
        noise = bytearray(whole) if rng.random() < 0.7 else bytearray(rng.randbytes(rng.randrange(300)))
        for _ in range(rng.randrange(1, 5)):
            start = rng.randrange(len(noise) + 1)
            noise[start : start + rng.randrange(6)] = rng.choice(
                [rng.randbytes(3), b"{", b"}", b'"', b"[", b"1e9", b","]
            )
        if bytes(noise) == whole:
            continue
        path.write_bytes(noise)
        with pytest.raises(CheckpointCorruptError):
            read(path)
        path.write_bytes(sealed(bytes(noise)))
        try:
            arrays, _ = read(path)
        except CheckpointCorruptError:
            continue
        assert all(a.size < 300 for a in arrays.values())


def test_file_that_cannot_be_read_raises_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="file cannot be read: No such file"):
        read(tmp_path / "file")


def test_only_checkpoint_files_and_empty_files_are_replaced(tmp_path):
    path = tmp_path / "file"
    write(path, ARRAYS, VALUES)
    whole, foreign = path.read_bytes(), safetensors.numpy.save(ARRAYS)
    for content, may in (
        (whole[: END + 9], True),
        (b"", True),
        (b"x", False),
        (whole[: START - 1], False),
        (foreign, False),
    ):
        path.write_bytes(content)
        with (
            nullcontext()
            if may
            else pytest.raises(CheckpointError, match="file exists and is not a checkpoint file")
        ):
            write(path, ARRAYS, VALUES)
        assert path.read_bytes() == (whole if may else content)
    with pytest.raises(CheckpointError, match="exists and is not a checkpoint file"):
        write(tmp_path, ARRAYS, VALUES)

"""IDX, .npy and .npz files are read exactly; truncated, damaged and hostile files are refused."""

import gzip
import os
import struct
import sys
import zipfile

import numpy as np
import pytest

from ffnn_gpu.data.array_files import npy_rows, npz_names, read_idx, read_npy, read_npz
from ffnn_gpu.errors import DataError

TINY = np.array([[1, -2, 3], [4, 5, -6]], dtype=">i2")


def idx_bytes(array: np.ndarray, code: int) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


def assert_refused_or_equal(read, path):
    try:
        got = read(path)
    except DataError as error:
        if path.name not in str(error):
            raise
    else:
        np.testing.assert_array_equal(got, TINY)


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_array_is_read_equal_in_native_byte_order(tmp_path, code, dtype, pack):
    path = tmp_path / "array-idx"
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    path.write_bytes(pack(idx_bytes(array, code)))
    got = read_idx(path)
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype.newbyteorder("=") and got.dtype.isnative


def test_idx_example_written_by_hand(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 255]))
    assert read_idx(path).tolist() == [7, 2, 255]


def test_idx_without_elements_has_its_shape(tmp_path):
    path = tmp_path / "none"
    path.write_bytes(idx_bytes(np.empty((0, 28, 28), ">u1"), 8))
    assert read_idx(path).shape == (0, 28, 28)


def test_idx_file_truncated_at_any_byte_is_refused(tmp_path):
    path = tmp_path / "tiny-idx"
    whole = idx_bytes(TINY, 0x0B)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"ends after") as caught:
            read_idx(path)
        assert str(path) in str(caught.value)
    assert "ends after 11 of 12 declared bytes" in str(caught.value)


def test_idx_gzip_truncated_at_any_byte_is_refused(tmp_path):
    path = tmp_path / "tiny-idx.gz"
    whole = gzip.compress(idx_bytes(TINY, 0x0B))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"tiny-idx\.gz"):
            read_idx(path)


def test_idx_gzip_with_a_flipped_bit_is_refused_or_unchanged(tmp_path):
    path = tmp_path / "tiny-idx.gz"
    whole = gzip.compress(idx_bytes(TINY, 0x0B))
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert_refused_or_equal(read_idx, path)  # a flipped bit of gzip's time stamp changes nothing


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_with_more_bytes_than_declared_is_refused(tmp_path, pack):
    path = tmp_path / "long-idx"
    path.write_bytes(pack(idx_bytes(TINY, 0x0B) + b"\0"))
    with pytest.raises(DataError, match=r"goes on after the 12 bytes its header declares \(shape \(2, 3\)"):
        read_idx(path)


@pytest.mark.parametrize(
    "start", [b"\0\0\x0a\x01", b"\0\1\x08\x01", b"\0\0\x08\x00", b"\0\0\x08\xff", b"\x89PNG"]
)
def test_idx_with_wrong_magic_shows_its_first_bytes(tmp_path, start):
    path = tmp_path / "picture"
    path.write_bytes(start + bytes(2000))
    with pytest.raises(DataError, match=rf"not an IDX file: its first bytes are {start.hex(' ')}"):
        read_idx(path)


def test_idx_declaring_more_than_the_cap_is_refused_with_both_numbers(tmp_path):
    path = tmp_path / "huge-idx"
    path.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1))
    with pytest.raises(
        DataError, match=rf"declares {(2**32 - 1) ** 3} bytes .* at most {4 << 30} are allowed"
    ):
        read_idx(path)
    path.write_bytes(idx_bytes(TINY, 0x0B))
    with pytest.raises(DataError, match=r"declares 12 bytes .* at most 11 are allowed"):
        read_idx(path, max_bytes=11)


def test_product_of_idx_dimensions_does_not_overflow(tmp_path):
    path = tmp_path / "wrap-idx"
    path.write_bytes(struct.pack(">HBB2I", 0, 0x0C, 2, 2**31, 2**31))  # 2⁶⁴ bytes: 0 in 64 bits
    with pytest.raises(DataError, match=f"declares {2**64} bytes"):
        read_idx(path)


class CountingReads:
    """A file that counts the compressed bytes read from it."""

    def __init__(self, file):
        self.file, self.taken = file, 0

    def seek(self, *place):
        return self.file.seek(*place)

    def read(self, size=-1):
        piece = self.file.read(size)
        self.taken += len(piece)
        return piece


def test_gzip_bomb_stops_at_the_declared_size(tmp_path, monkeypatch):
    path = tmp_path / "bomb-idx.gz"
    with gzip.open(path, "wb", compresslevel=9) as stream:
        stream.write(struct.pack(">HBBI", 0, 8, 1, 1000))
        for _ in range(64):
            stream.write(bytes(1 << 20))  # 64 MiB behind a header that declares 1000 bytes
    counting = CountingReads(None)
    real = gzip.GzipFile

    def counted(fileobj):
        counting.file = fileobj
        return real(fileobj=counting)

    monkeypatch.setattr("ffnn_gpu.data.array_files.gzip.GzipFile", counted)
    with pytest.raises(DataError, match="goes on after the 1000 bytes"):
        read_idx(path)
    assert 0 < counting.taken < path.stat().st_size


def test_false_size_in_a_header_allocates_no_memory(tmp_path):
    tracemalloc = pytest.importorskip("tracemalloc")
    path = tmp_path / "liar-idx"
    path.write_bytes(struct.pack(">HBBI", 0, 8, 1, 4_000_000_000) + bytes(100))
    tracemalloc.start()
    with pytest.raises(DataError, match="ends after 100 of 4000000000 declared bytes"):
        read_idx(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_npy_is_memory_mapped_and_read_only(tmp_path):
    np.save(tmp_path / "a.npy", TINY)
    got = read_npy(tmp_path / "a.npy")
    assert isinstance(got, np.memmap) and not got.flags.writeable
    np.testing.assert_array_equal(got, TINY)


def test_npy_without_elements_is_read(tmp_path):
    np.save(tmp_path / "a.npy", np.empty((0, 3)))
    assert read_npy(tmp_path / "a.npy").shape == (0, 3)


def test_npy_truncated_at_any_byte_or_too_long_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, TINY)
    whole = path.read_bytes()
    for content in [whole[:length] for length in range(len(whole))] + [whole + b"\0"]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npy"):
            read_npy(path)
    assert len(whole) == 140
    with pytest.raises(DataError, match="has 141 bytes; its header declares 140"):
        read_npy(path)


def test_npy_with_damaged_header_is_a_data_error_or_read(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, TINY)
    whole = path.read_bytes()
    for bit in range(8 * 128):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert read_npy(path).nbytes == 12  # another dtype or order of the same size cannot be detected
        except DataError as error:
            if "a.npy" not in str(error):
                raise


def test_npy_declaring_32_gib_in_128_bytes_is_refused_before_allocation(tmp_path):
    path = tmp_path / "a.npy"
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<f8", "fortran_order": False, "shape": (1 << 32,)}
        )
    with pytest.raises(DataError, match=rf"has 128 bytes; its header declares {128 + (8 << 32)}"):
        read_npy(path)


def test_python_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(DataError, match="holds Python objects"):
        read_npy(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", X=np.array([{"a": 1}]))
    with pytest.raises(DataError, match="array 'X' holds Python objects"):
        read_npz(tmp_path / "a.npz", "X")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_arrays_are_read_equal_in_either_order(tmp_path, save):
    path = tmp_path / "a.npz"
    fortran = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    save(path, X=fortran, y=np.array(["a", "b", "c"]))
    assert npz_names(path) == ("X", "y")
    np.testing.assert_array_equal(read_npz(path, "X"), fortran)
    assert read_npz(path, "y").tolist() == ["a", "b", "c"]


def test_npz_over_the_cap_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", X=np.zeros(1000))
    with pytest.raises(DataError, match=r"array 'X' declares 8000 bytes .* at most 7999 are allowed"):
        read_npz(tmp_path / "a.npz", "X", max_bytes=7999)


def test_npz_with_any_flipped_bit_is_refused_or_unchanged(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, X=TINY)
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert_refused_or_equal(lambda path: read_npz(path, "X"), path)


def test_error_for_npz_that_is_no_zip_or_lacks_the_array_names_the_file(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"a\.npz cannot be read: BadZipFile"):
        read_npz(path, "X")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"short")
    with pytest.raises(DataError, match=r"a\.npz cannot be read: ValueError"):
        read_npz(path, "X")
    with pytest.raises(DataError, match=r"a\.npz cannot be read: KeyError"):
        read_npz(path, "y")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
@pytest.mark.parametrize(("read", "name"), [(read_npy, "x.npy"), (npz_names, "x.npz"), (npy_rows, "x.npy")])
def test_pipe_is_named_and_not_waited_for(tmp_path, read, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=f"{name} is a pipe; .npy and .npz are read from files only"):
        read(tmp_path / name)

"""Timed algorithms: the fastest is used and stored on disk, and checked when it is loaded."""

import json
import os

import numpy as np
import pytest

from ffnn_gpu.backends.cuda.cublaslt import matmul as cublaslt
from ffnn_gpu.backends.cuda.cublaslt.store import AlgorithmStore, store_path
from ffnn_gpu.errors import BackendUnavailableError
from tests.backends.cuda.dense_products import assert_close, draw, make, one_layer

ALGORITHM = bytes(range(64))


@pytest.fixture(autouse=True)
def no_home(monkeypatch, tmp_path):
    """Keep the tests away from the cache of the user who runs them."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


def multiply(lt, cupy):
    x, W = draw(cupy, (3, 4), "float32"), draw(cupy, (4, 5), "float32", 1)
    assert_close(lt.product(x, W, out=cupy.empty((3, 5), "float32")), x.values @ W.values)


def last_used(monkeypatch, path, **changes):
    """Return (algorithm, number of searches) of a product in a new CublasLt, as in a new process."""
    lt, cupy, bindings = make(cublaslt, monkeypatch, autotune=3, store=path)
    vars(bindings).update(changes)
    multiply(lt, cupy)
    return bindings.used[-1], bindings.searches


def test_without_autotune_the_recommended_algorithm_runs_once_and_nothing_is_stored(monkeypatch, tmp_path):
    lt, cupy, bindings = make(cublaslt, monkeypatch)
    multiply(lt, cupy)
    assert bindings.used == [0] and not list(tmp_path.rglob("*"))


def test_autotune_takes_the_fastest_algorithm_and_the_next_process_loads_it(monkeypatch, tmp_path):
    path = tmp_path / "cache" / "plans.json"
    assert last_used(monkeypatch, path) == (1, 1)
    assert last_used(monkeypatch, path, costs=(1.0, 9.0, 9.0)) == (1, 0)  # loaded, not timed again
    assert [file.name for file in path.parent.iterdir()] == ["plans.json"]


def test_autotune_skips_algorithms_that_fail(monkeypatch, tmp_path):
    assert last_used(monkeypatch, tmp_path / "plans.json", broken={1}) == (2, 1)


def test_products_raise_if_every_algorithm_fails(monkeypatch, tmp_path):
    lt, cupy, bindings = make(cublaslt, monkeypatch, autotune=3, store=tmp_path / "plans.json")
    bindings.broken = {0, 1, 2}
    with pytest.raises(BackendUnavailableError, match="cannot compute"):
        multiply(lt, cupy)
    assert not (tmp_path / "plans.json").exists()


def test_autotune_never_runs_in_a_capture(monkeypatch, tmp_path):
    lt, cupy, bindings = make(cublaslt, monkeypatch, autotune=3, store=tmp_path / "plans.json")
    one_layer(lt, cupy, 5, 3, 7, "float32")
    cupy.stream.capturing, before = True, bindings.searches
    one_layer(lt, cupy, 5, 3, 7, "float32")
    with pytest.raises(BackendUnavailableError, match="run the step once"):
        multiply(lt, cupy)
    assert bindings.searches == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b'{"format": 2, "algorithms": {}}',
        b'{"format": 1}',
        b"[" * 100_000,
        b'{"format": 1, "algorithms": []}',
        b'{"format": 1, "algorithms": {"a": "zz"}}',
        b'{"format": 1, "algorithms": {"a": 3}}',
    ],
    ids=range(11),
)
def test_damaged_file_is_ignored_and_rewritten(monkeypatch, tmp_path, content):
    path = tmp_path / "plans.json"
    path.write_bytes(content)
    assert last_used(monkeypatch, path) == (1, 1)
    assert last_used(monkeypatch, path) == (1, 0)  # the first product rewrote the file


@pytest.mark.parametrize("algorithm", [bytes(64), b"\xff" * 64, b"short"])
def test_invalid_stored_algorithm_is_searched_again(monkeypatch, tmp_path, algorithm):
    path = tmp_path / "plans.json"
    last_used(monkeypatch, path)
    content = json.loads(path.read_text())
    content["algorithms"] = dict.fromkeys(content["algorithms"], algorithm.hex())
    path.write_text(json.dumps(content))
    assert last_used(monkeypatch, path) == (1, 1)


def test_algorithm_that_needs_a_larger_workspace_is_searched_again(monkeypatch, tmp_path):
    last_used(monkeypatch, tmp_path / "plans.json")
    assert last_used(monkeypatch, tmp_path / "plans.json", wanted=2**30) == (1, 1)


def test_processes_that_write_in_turn_preserve_each_others_entries(tmp_path):
    first, second = AlgorithmStore(tmp_path / "a.json"), AlgorithmStore(tmp_path / "a.json")
    first.put("p", ALGORITHM)
    second.put("q", ALGORITHM[::-1])
    found = AlgorithmStore(tmp_path / "a.json")
    assert (found.get("p"), found.get("q"), found.get("r")) == (ALGORITHM, ALGORITHM[::-1], None)


def test_algorithms_stay_in_memory_if_the_folder_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = AlgorithmStore(tmp_path / "file" / "a.json")
    store.put("p", ALGORITHM)
    assert store.get("p") == ALGORITHM


def test_failed_write_leaves_the_old_file_intact(monkeypatch, tmp_path):
    store = AlgorithmStore(tmp_path / "a.json")
    store.put("p", ALGORITHM)
    before = (tmp_path / "a.json").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    store.put("q", ALGORITHM)
    assert (tmp_path / "a.json").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_file_is_named_after_gpu_driver_and_version(monkeypatch, tmp_path):
    lt, cupy, _ = make(cublaslt, monkeypatch, autotune=2)
    multiply(lt, cupy)
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert file.name == "cublaslt-nvidia-paper-100-80-gb-driver-13000-cublaslt-131000.json"
    assert file == store_path("NVIDIA Paper 100 (80 GB)", 13000, 131000)


def test_algorithms_stay_in_memory_without_a_home_folder(monkeypatch, tmp_path):
    def homeless(*args):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cublaslt, "store_path", homeless)
    lt, cupy, bindings = make(cublaslt, monkeypatch, autotune=3)
    multiply(lt, cupy)
    assert bindings.used[-1] == 1 and not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_product_is_correct_after_timing(monkeypatch, tmp_path):
    """Timing writes out and db many times; the requested product comes last."""
    lt, cupy, _ = make(cublaslt, monkeypatch, autotune=3, store=tmp_path / "plans.json")
    x, delta, db = draw(cupy, (6, 3), "float32"), draw(cupy, (6, 5), "float32"), cupy.empty((5,), "float32")
    assert_close(
        lt.product(x.T, delta, cupy.empty((3, 5), "float32"), bias_gradient=db), x.values.T @ delta.values
    )
    assert np.allclose(db.values, delta.values.sum(axis=0), atol=1e-6)

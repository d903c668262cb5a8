"""`train` leaves rows that are too large to copy in their files; the run equals one on a copy."""

import json
import tracemalloc

import numpy as np
import pytest

from ffnn_gpu import Dense, Network
from ffnn_gpu.arrays import file_rows
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.file_rows import FileRows
from ffnn_gpu.arrays.standardized import Standardized
from ffnn_gpu.cli import messages, reading, result, train
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.data.readers import read
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.task import Task
from tests.distributed.threads import on_ranks

RNG = np.random.default_rng(4)
ROWS = 400
TABLE = RNG.normal(size=(ROWS, 6)).astype(np.float32) * [1, 10, 100, 1, 1, 1]
TABLE[:, 3] = 7  # a constant column
CLASSES, PRICE = TABLE[:, :3].argmax(axis=1), 1000 * TABLE[:, 0] + TABLE[:, 1]
SETTINGS = {"hidden": (8,), "epochs": 3, "batch_size": 32, "device": "numpy", "cut": 1.2, "dtype": "float64"}
TIMES = (
    "seconds", "reason", "samples_per_second", "ranks", "versions", "backend", "data", "peak_bytes",
)  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(result, "_draw_plots", lambda *arguments: None)
    for name, y in {"classes": CLASSES, "price": PRICE}.items():
        np.save(f"{name}.npy", np.column_stack([TABLE, y]).astype(np.float32))
        np.save(f"{name}-first.npy", np.column_stack([y, TABLE]).astype(np.float32))
    (tmp_path / "many").mkdir()
    for k, part in enumerate(np.array_split(np.load("classes.npy"), 3)):
        np.save(f"many/{8 + k}.npy", part)
    return tmp_path


def large(monkeypatch):
    """From now on, treat every file as too large to copy."""
    monkeypatch.setattr(file_rows, "MAPPED", 100)


def trained(out, data="classes.npy", communicator=None, **more):
    """Train; return (parameters, result.json without times)."""
    done = train.train(TrainConfig(data=data, out=str(out), **SETTINGS | more), communicator=communicator)
    written = json.loads((done.folder / "result.json").read_text())
    return done.model.network.params.to_host(), {name: written[name] for name in written.keys() - {*TIMES}}


def assert_same(found, wanted, tolerance=0.0):
    for name, value in wanted[0].items():
        np.testing.assert_allclose(
            found[0][name], value, rtol=0, atol=tolerance * np.abs(value).max(), err_msg=name
        )
    tests = found[1].pop("test"), wanted[1].pop("test")
    assert found[1] == wanted[1] and tests[0] == pytest.approx(tests[1], rel=1e-12)
    wanted[1]["test"] = tests[1]


@pytest.mark.parametrize("data", ["classes.npy", "price.npy", "classes-first.npy"])
@pytest.mark.parametrize(
    "more", [{}, {"standardize": False, "dtype": "float32", "cut": 0.0}], ids=["standardized", "raw"]
)
def test_run_on_rows_in_a_file_equals_a_run_on_a_copy(here, monkeypatch, data, more):
    more = more | ({"target": 0} if "first" in data else {})
    wanted = trained("copied", data, **more)
    large(monkeypatch)
    assert_same(trained("left", data, **more), wanted)


@pytest.mark.parametrize("n", [2, 3])
def test_ranks_on_rows_in_files_equal_one_process(here, monkeypatch, n):
    wanted = trained("one")
    large(monkeypatch)
    found = on_ranks(n, lambda ranks: trained("many-ranks", communicator=ranks))[0]
    for rank in found:
        assert_same(rank, wanted, 1e-12)


def test_run_of_one_process_resumes_with_two_ranks(here, monkeypatch):
    large(monkeypatch)
    wanted = trained("whole", epochs=5, schedule="constant")
    trained("cut", epochs=2, schedule="constant")
    resumed = TrainConfig(data="classes.npy", out="cut", **SETTINGS | {"epochs": 5, "schedule": "constant"})
    found = on_ranks(2, lambda ranks: train.train(resumed, resume=True, communicator=ranks))[0]
    for done in found:
        for name, value in wanted[0].items():
            np.testing.assert_allclose(
                done.model.network.params.to_host()[name], value, rtol=1e-10, atol=1e-13
            )


def test_folder_of_files_is_one_table(here):
    data, single = read("many"), read("classes.npy")
    assert isinstance(data.x, FileRows) and data.name == "many"
    assert (np.asarray(data.x) == single.x).all() and (data.y == single.y).all()
    first = read("many", 0)
    assert (np.asarray(first.x) == np.load("classes.npy")[:, 1:]).all() and (first.y == TABLE[:, 0]).all()
    assert (read("many", 2).x == np.delete(np.load("classes.npy"), 2, axis=1)).all()
    assert_same(trained("folder", "many"), trained("file"))


def test_folder_whose_files_are_no_table_is_refused(here):
    np.save("many/8.npy", np.zeros(3))
    np.save("many/9.npy", np.zeros(3))
    np.save("many/10.npy", np.zeros(3))
    with pytest.raises(
        DataError, match=r"many holds float64 of shape \(9,\); it must hold numbers \(n, features \+ 1\)"
    ):
        read("many")


@pytest.mark.parametrize("target", [0, 2])
def test_folder_is_evaluated_with_the_target_column_of_the_training_run(here, target):
    config = TrainConfig(data="many", out="r", target=target, **SETTINGS | {"epochs": 1})
    model = train.train(config).model
    _, x, y = reading.read_labelled("many", None, model)
    wanted = read("classes.npy", target)
    assert (np.asarray(x) == wanted.x).all() and (y == wanted.y).all()
    assert f"target column {target}, " in messages.data_line(read("many", target), model.task, config)


def test_data_set_of_a_folder_is_named_after_the_folder(here, monkeypatch):
    monkeypatch.chdir("many")
    assert read(".").name == "many"


def test_rows_in_files_are_read_only_when_needed(here, monkeypatch):
    large(monkeypatch)
    done = train.train(TrainConfig(data="classes.npy", out="r", **SETTINGS))
    x = np.load("classes.npy", mmap_mode="r")[:, :-1]
    features = done.model.features(x)
    assert isinstance(features, Standardized) and features.stored is x
    twice = rows_of(x).select(np.arange(9)).select(np.array([3]))
    assert twice.whole.stored is x and twice.index.tolist() == [3]
    copy = done.model.features(np.array(x))
    np.testing.assert_allclose(np.asarray(features), copy, rtol=1e-15, atol=1e-300)
    assert not copy[:, 3].any() and (np.abs(copy) == 1.2).any()


def test_column_that_is_constant_in_training_rows_stays_zero_in_other_rows(here, monkeypatch):
    large(monkeypatch)
    done = train.train(TrainConfig(data="classes.npy", out="r", **SETTINGS))
    strange = np.load("classes.npy")
    strange[:, 3] = 1e6
    np.save("strange.npy", strange)
    x = np.load("strange.npy", mmap_mode="r")[:, :-1]
    assert done.model.predict(x).tolist() == done.model.predict(np.array(x)).tolist()
    assert done.model.count_cut(x) == done.model.count_cut(np.array(x)) > 0
    loaded = Model.load(done.folder, "numpy")
    assert loaded.evaluate(x, CLASSES) == pytest.approx(loaded.evaluate(np.array(x), CLASSES), rel=1e-12)


def peak_bytes(work):
    """Return the peak of allocated bytes during work()."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_few_wide_rows_in_files_are_not_copied(here, monkeypatch):
    large(monkeypatch)
    wide = np.random.default_rng(0).normal(size=(4000, 2500)).astype(np.float32)
    (here / "wide").mkdir()
    np.save("wide/0.npy", wide)
    assert peak_bytes(lambda: read("wide")) < wide.nbytes / 4
    x = read("wide").x
    network = Network(2499, [Dense(1)], "numpy")
    model = Model(network, Task.of(PRICE), Standardizer(np.zeros(2499), np.ones(2499)), limit=2.0)
    assert peak_bytes(lambda: model.count_cut(x)) < wide.nbytes
    assert model.count_cut(x) == (np.abs(wide[:, :-1]) > 2).sum()


def test_target_column_in_the_middle_costs_one_copy_of_the_others(here):
    wide = np.random.default_rng(0).normal(size=(40000, 100)).astype(np.float32)
    (here / "wide").mkdir()
    np.save("wide/0.npy", wide)
    assert peak_bytes(lambda: read("wide", 50)) < 1.75 * wide.nbytes


def test_rows_to_predict_may_be_a_folder_of_files(here):
    done = train.train(TrainConfig(data="many", out="r", **SETTINGS))
    (here / "x").mkdir()
    table = np.load("classes.npy")[:, :-1]
    for k, part in enumerate(np.array_split(table, 2)):
        np.save(f"x/{k}.npy", part)
    rows, names = reading.read_rows("x", done.model)
    assert names is None and done.model.predict(rows).tolist() == done.model.predict(table).tolist()
    (here / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no \.npy file"):
        reading.read_rows("empty", done.model)

"""Rank 0 reads a table for all: the other ranks train on the same bits and open no file."""

import numpy as np
import pytest
from msgspec.structs import replace

from ffnn_gpu.arrays import file_rows
from ffnn_gpu.cli import shared_table
from ffnn_gpu.cli.reading import read_training
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.cli.shared_table import encode_for_all, read_for_all
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.split import split_rows
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.tables import encoded
from tests.distributed.threads import on_ranks

pytest.importorskip("duckdb")
DTYPES = ["float32", "bfloat16"]


@pytest.fixture
def config(tmp_path):
    lines = (
        f"{'' if k % 7 == 0 else k * 0.5},{'abc'[k % 3]},2020-01-{1 + k % 28:02},{k % 12},{1 + k % 2},"
        f"{'' if k == 5 else 'ny'[k % 2]}"
        for k in range(60)
    )
    (tmp_path / "t.csv").write_text("x,level,day,g,w,y\n" + "\n".join(lines) + "\n")
    return TrainConfig(data=str(tmp_path / "t.csv"), weight="w", group="g")


def prepared(ranks, config):
    """Return what a rank trains on: kinds, targets, weights, encoding and matrix of the training rows."""
    training = read_for_all(ranks, config)
    data, columns, roles, _ = training
    split = split_rows(data, Task.of(data.y), config, roles)
    part = split.train
    if ranks.size > 1:
        encode_for_all(ranks, data.x, part.x, columns, config)
    encoding = part.x.fit(columns, (), 10_000)
    matrix = np.asarray(part.x.encoded(encoding, shared_table.floating(config.dtype))[:])
    kinds = [(column.name, column.place, column.kind, column.reason) for column in columns]
    described = data.feature_names, data.target_name, data.name, data.x.shape, training.lacking
    return kinds, described, encoding, part.y.tolist(), part.weight.tolist(), matrix


def assert_same(found, wanted):
    assert found[:-1] == wanted[:-1]
    np.testing.assert_array_equal(found[-1].view(np.uint8), wanted[-1].view(np.uint8))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", ["in memory", "in a file", "in a file that others do not see"])
def test_all_ranks_train_on_what_one_process_reads(config, where, dtype, monkeypatch):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    config = replace(config, dtype=dtype)
    alone = on_ranks(1, lambda ranks: prepared(ranks, config))[0][0]
    read, calls = read_training, []
    monkeypatch.setattr(shared_table, "read_training", lambda config: calls.append(1) or read(config))
    if where != "in memory":
        monkeypatch.setattr(encoded, "MAPPED", 0)
        monkeypatch.setattr(file_rows, "MAPPED", 0)
    if where == "in a file that others do not see":
        monkeypatch.setattr(shared_table, "mapped_from", lambda *arguments: None)
    found, _ = on_ranks(3, lambda ranks: prepared(ranks, config))
    assert len(calls) == 1
    for each in found:
        assert_same(each, alone)


def test_standard_input_is_for_one_process(config):
    def work(ranks):
        with pytest.raises(ConfigurationError, match=r"2 ranks cannot read -, .* write it to a file first"):
            read_for_all(ranks, replace(config, data="-"))

    on_ranks(2, work)


def test_error_of_rank_zero_is_raised_on_every_rank(config):
    config = replace(config, weight="none")

    def work(ranks):
        with pytest.raises(DataError, match=r"--weight: .* has no column 'none'") as caught:
            read_for_all(ranks, config)
        return str(caught.value)

    first, second = on_ranks(2, work)[0]
    assert first == second

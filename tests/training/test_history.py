import csv
import json
import math

import pytest

from ffnn_gpu.training.history import History

ROWS = [{"epoch": 1, "loss": 0.1 + 0.2, "lr": 1e-3}, {"epoch": 2, "loss": math.pi, "lr": 1e-3}]


def test_column_of_a_history_is_its_values_by_epoch():
    history = History(ROWS)
    assert len(history) == 2
    assert history["loss"] == [0.1 + 0.2, math.pi]
    assert History()["loss"] == []


def test_unknown_column_is_refused_with_the_names_there_are():
    with pytest.raises(KeyError, match=r"'acc'.*epoch, loss, lr"):
        History(ROWS)["acc"]


def test_csv_and_jsonl_keep_every_bit(tmp_path):
    History(ROWS).to_csv(tmp_path / "h.csv")
    with open(tmp_path / "h.csv", newline="", encoding="utf-8") as file:
        assert [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)] == ROWS
    History(ROWS).to_jsonl(tmp_path / "h.jsonl")
    assert [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()] == ROWS


def test_empty_history_can_be_written(tmp_path):
    History().to_csv(tmp_path / "h.csv")
    History().to_jsonl(tmp_path / "h.jsonl")
    assert (tmp_path / "h.csv").read_text().strip() == "epoch" and (tmp_path / "h.jsonl").read_text() == ""


def test_history_that_gained_a_column_midway_can_be_written_and_read(tmp_path):
    history = History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "val_loss": 3.0}])
    assert math.isnan(history["val_loss"][0]) and history["val_loss"][1] == 3.0
    history.to_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text().splitlines() == ["epoch,loss,val_loss", "1,2.0,", "2,1.0,3.0"]


@pytest.mark.parametrize("rows", [ROWS, []])
def test_plot_draws_one_line_per_column(tmp_path, rows):
    pytest.importorskip("matplotlib")
    figure = History([row | {"val_loss": 1.0, "val_accuracy": 0.5, "seconds": 1.0} for row in rows]).plot(
        tmp_path / "h.png"
    )
    assert [len(axes.lines) for axes in figure.axes] == ([2, 1] if rows else [0, 0])
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")

"""Small runs of every kind, made by the command itself."""

import csv
import json
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ffnn_gpu.cli import result
from ffnn_gpu.cli.commands import main
from ffnn_gpu.estimators.tabular.recipes import PRESETS, Plain, Preset
from ffnn_gpu.tables import answers

RNG = np.random.default_rng(5)
HOSTILE = '<script>alert("1")</script>'
LABELS = ("\"><img src=x onerror='a()'>", "אבג 🎉")
TINY = Preset(
    (
        Plain(name="linear", lr=3e-2, weight_decay=0.0, epochs=4, steps=1),
        Plain(name="two layers", hidden=(8, 4), dropout=(0.1, 0.1), lr=1e-2, epochs=5, steps=1),
    ),
    3,
)
FAST = (
    "--hidden",
    "8",
    "--batch-size",
    "16",
    "--epochs",
    "3",
    "--lr",
    "0.02",
    "--device",
    "numpy",
    "--quiet",
)
KINDS = ("two", "wide", "fifty", "several", "labels", "npy", "ensemble", "prices", "gone", "killed")


def write(path, names, *columns):
    """Write a table of these columns."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(names)
        rows.writerows(zip(*columns, strict=True))


def write_data():
    """Write the data of all runs into the working folder."""
    x = RNG.normal(size=(120, 60)).round(3)
    color = RNG.choice(["red", HOSTILE, "\u202eleft"], 120)
    label = np.where(x[:, 0] > 0, *LABELS)
    write("two.csv", ["a<b>&", f"{HOSTILE} {'long ' * 30}", "<i>kind</i>"], x[:, 0], color, label)
    price = (3 * x[:, 0] + x[:, 1] + 40).round(3)
    columns = {f"x{k}": x[:, k] for k in range(60)} | {"price": price}
    answers.write(Path("wide.parquet"), columns, ".parquet")  # typed: read in half the time of text
    write("price.csv", ["a", "b", "price"], x[:, 0], x[:, 1], price)
    write("several.csv", ["a", "b", "u", "v"], x[:, 0], x[:, 1], price, (x[:, 1] * 1e6).round(1))
    code = np.repeat(np.arange(50), 8)
    some = RNG.normal(size=(2, 400)).round(3)
    write("fifty.csv", ["a", "b", "c"], code + some[0], some[1], [f"class {k}" for k in code])
    np.save("rows.npy", np.column_stack([x[:, :5], x[:, 0] > 0]))
    np.savez("labels.npz", X=x[:, :4], y=(x[:, :3] > 0).astype(int))


def train(*words):
    """Run `ffnn-gpu train` in this process."""
    done = CliRunner().invoke(main, ["train", *map(str, words), *(() if "tabular" in words else FAST)])
    assert done.exit_code == 0, done.output
    return done


def make(folder):
    """Train every kind of run in a folder."""
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(result, "_draw_plots", lambda *given: None)
        patch.setitem(PRESETS, "good", TINY)
        write_data()
        train("two.csv", "--out", "two")
        train("wide.parquet", "--out", "wide")
        train("fifty.csv", "--out", "fifty")
        train("several.csv", "--target", "u,v", "--task", "regression", "--out", "several")
        train("labels.npz", "--out", "labels")
        train("rows.npy", "--task", "binary", "--out", "npy")
        for data, out in (("two.csv", "ensemble"), ("price.csv", "prices")):
            train(data, "--model", "tabular", "--device", "numpy", "--quiet", "--out", out)
        shutil.copytree("two", "gone")
        config = Path("gone/config.toml")
        config.write_text(config.read_text("utf-8").replace("two.csv", "no-such.csv"), "utf-8")
        shutil.copytree("several", "killed")
        for name in ("result.json", "model.safetensors", "history.csv"):
            Path("killed", name).unlink()
        rows = Path("killed/metrics.jsonl").read_text("utf-8")
        Path("killed/metrics.jsonl").write_text(
            rows[: rows.rindex("}") - 9], "utf-8"
        )  # cut while it is written


def result_of(folder):
    """Return the content of a run's result.json."""
    return json.loads((folder / "result.json").read_text("utf-8"))

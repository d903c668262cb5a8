"""The command that a report shows gives the settings of the run."""

import shlex

import click
import pytest

from ffnn_gpu.cli.commands import train_command
from ffnn_gpu.cli.settings import FIELDS, TrainConfig, resolve
from ffnn_gpu.estimators.model_choice import KINDS, OF_ENSEMBLES, OF_ONE_NETWORK
from ffnn_gpu.report.record import Record
from ffnn_gpu.report.reproducing import commands_of, settings_of, train_words
from ffnn_gpu.training.history import History

CONFIGS = [
    TrainConfig(data="digits"),
    TrainConfig(data="my data.csv", target="price, in €", hidden=(), drop=("a,b", 'c"d', "e\nf")),
    TrainConfig(data="a.csv", day_first=True, header=False, lr=1e-4, hidden=(8, 4), standardize=False),
    TrainConfig(data="a.csv", day_first=False, header=True, class_weight="balanced", missing=("-", "?")),
    TrainConfig(query="SELECT * FROM 'a b.csv' WHERE x > 1", time_limit="10m", model="tabular", target="3"),
    TrainConfig(data="-x.csv", weight="-w"),
]  # fmt: skip


def parsed(words):
    """Return the configuration that the command makes of these words."""
    context = train_command.make_context("train", [*words], resilient_parsing=False)
    names = ("data", *(name for name in FIELDS if name != "data"))
    return resolve({name: context.params.get(name) for name in names}, environment={})


@pytest.mark.parametrize("config", CONFIGS)
def test_command_gives_the_same_settings(config):
    words = shlex.split(shlex.join(train_words(config)))
    assert words[0] == "train" and parsed(words[1:]) == config


def test_default_settings_are_not_in_the_command():
    assert train_words(TrainConfig(data="digits")) == ["train", "digits"]


def test_settings_are_all_there_and_know_whether_they_are_defaults():
    found = {
        each.name: each for each in settings_of(TrainConfig(data="a", lr=0.1, hidden=(8, 4), header=False))
    }
    assert {*found} == {*FIELDS} - {"out"}
    shown = [
        (found[name].value, found[name].is_default) for name in ("lr", "hidden", "header", "ema", "seed")
    ]
    with_model = {model: {each.name for each in settings_of(TrainConfig(model=model))} for model in KINDS}
    assert with_model["mlp"] == {*found} - {*OF_ENSEMBLES}
    assert with_model["tabular"] == {*found} - {*OF_ONE_NETWORK}
    assert shown == [("0.1", False), ("8,4", False), ("no", False), ("not set", True), ("0", True)]


@pytest.mark.parametrize(
    ("result", "first"),
    [
        ({}, "ffnn-gpu train --resume --out 'my run'"),
        ({"interrupted": "SIGINT"}, "ffnn-gpu train --resume --out 'my run'"),
        ({"interrupted": None}, "ffnn-gpu train --config 'my run'/config.toml"),
        ({"ranks": 4}, "mpiexec -n 4 python -m mpi4py -m ffnn_gpu train --config 'my run'/config.toml"),
    ],
)
def test_first_command_continues_a_run_that_has_not_ended(result, first):
    record = Record("my run", TrainConfig(data="digits"), result, History())
    assert commands_of(record)[0][1] == first


def test_words_are_checked_by_the_command_itself():
    with pytest.raises(click.UsageError):
        parsed(["digits", "--no-such-setting"])

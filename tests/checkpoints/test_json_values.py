"""Every JSON text is JSON by RFC 8259, and our own files restore every number."""

import json
import math

import numpy as np
import pytest

from ffnn_gpu import Dense, Network, load, save
from ffnn_gpu.checkpoints.checkpoint import load_extras
from ffnn_gpu.checkpoints.json_values import dumps, dumps_exactly, loads
from ffnn_gpu.training.history import History

VALUE = {"a": [1, 2.5, math.nan, -math.inf], "b": {"c": (math.inf, np.float64("nan")), "d": None, "e": True}}


def strict(text):
    """Parse a text, and refuse what RFC 8259 does not have."""

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_are_not_finite_are_null_for_other_programs():
    assert strict(dumps(VALUE)) == {"a": [1, 2.5, None, None], "b": {"c": [None, None], "d": None, "e": True}}


def test_our_own_texts_restore_every_number():
    text = dumps_exactly(VALUE)
    strict(text)
    assert repr(loads(text)) == repr(
        {"a": [1, 2.5, math.nan, -math.inf], "b": {"c": [math.inf, math.nan], "d": None, "e": True}}
    )


@pytest.mark.parametrize(
    "value", [{"float": "nan", "more": 1}, {"float": "1"}, {"float": 1.5}, "nan", {"float": None}]
)
def test_values_that_only_look_like_numbers_come_back_as_they_are(value):
    assert loads(dumps_exactly(value)) == value


def test_texts_of_earlier_versions_are_read():
    assert repr(loads('{"best": NaN, "limit": Infinity}')) == "{'best': nan, 'limit': inf}"


def test_checkpoint_holds_strict_json_and_restores_extras(tmp_path):
    path = tmp_path / "m.safetensors"
    save(Network(2, [Dense(1)], "numpy"), path, extras={"limit": math.inf, "best": [math.nan, -math.inf]})
    content = path.read_bytes()
    header = strict(content[8 : 8 + int.from_bytes(content[:8], "little")])
    for text in header["__metadata__"].values():
        assert len(text) == 64 or strict(text) is not None
    assert repr(load_extras(path)) == "{'limit': inf, 'best': [nan, -inf]}" and load(path, "numpy").n_in == 2


def test_history_is_written_as_strict_json(tmp_path):
    History([{"epoch": 1, "loss": 1.0, "val_r2": math.nan, "val_mse": math.inf}]).to_jsonl(
        tmp_path / "h.jsonl"
    )
    assert strict((tmp_path / "h.jsonl").read_text()) == {
        "epoch": 1,
        "loss": 1.0,
        "val_r2": None,
        "val_mse": None,
    }

"""Checkpoints that were written long ago are still read, and their trainings still go on."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import ffnn_gpu as nn
from ffnn_gpu.checkpoints import atomic_folder, checkpoint
from ffnn_gpu.training import data_fingerprint as fingerprint

SCRIPT = Path(__file__).parents[1] / "golden" / "make_checkpoints.py"
spec = importlib.util.spec_from_file_location("make_checkpoints", SCRIPT)
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)
NAMES = ["format-1-bfloat16", "format-1-float32", "format-1-inputs-bfloat16", "format-1-inputs-float32"]
every = pytest.mark.parametrize("name", NAMES)


def test_every_golden_checkpoint_is_tested():
    assert sorted(path.name for path in maker.FOLDER.iterdir()) == NAMES


@every
def test_golden_network_is_read_with_every_bit(name):
    network = nn.load(maker.FOLDER / name / "exact", "numpy")
    assert (network.n_in, network.layers, network.seed) == (3, maker.LAYERS, 7)
    assert network.compute_dtype.name == name.split("-")[-1] and int(network.params.step[0]) == 12
    for key, value in network.params.to_host().items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value.ravel(), np.arange(value.size) / 8, err_msg=key)
    assert nn.load_extras(maker.FOLDER / name / "exact") == maker.EXTRAS


@every
def test_golden_training_goes_on(name, tmp_path):
    shutil.copytree(maker.FOLDER / name, tmp_path / "run")
    network = nn.Network(3, maker.LAYERS, "numpy", name.split("-")[-1], seed=7)
    stored = atomic_folder.read(tmp_path / "run" / "last")[1]["training"]["history"]
    history = maker.train(network, tmp_path / "run", 4, resume=True)
    assert len(stored) == 2 and history.rows[:2] == stored and len(history) == 4
    assert int(network.params.step[0]) == 12


@every
def test_format_that_is_written_is_the_golden_one(name, tmp_path):
    """A field more, less or renamed is another format: then FORMAT grows, and new golden files are made.

    But for the checksums that are read where they are there: the versions before them do not look for them either.
    """
    maker.write(tmp_path / "now", name.split("-")[-1])
    for part in ("last", "exact"):
        (files, state), (golden, stored) = map(
            atomic_folder.read, (tmp_path / "now" / part, maker.FOLDER / name / part)
        )
        if "inputs" not in name and part == "last":
            for later in fingerprint.LATER:
                state["training"]["plan"].pop(later)
        assert (
            shape_of(state) == shape_of(stored) and state["format"] == checkpoint.FORMAT == stored["format"]
        )
        assert files.keys() == golden.keys()
        for file in files:
            assert header(files[file]) == header(golden[file]), f"{part}/{file}"


def shape_of(value):
    """The keys and types of a JSON value."""
    if isinstance(value, dict):
        return {key: shape_of(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [shape_of(entry) for entry in value]
    return (
        "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
    )


def header(content):
    """Names, types and shapes of the tensors in a safetensors file, and its metadata: everything but the numbers."""
    entries = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {name: {k: v for k, v in entry.items() if k != "data_offsets"} for name, entry in entries.items()}

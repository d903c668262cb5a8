"""Checkpoints of earlier versions can still be loaded and resumed."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

import ffnn_gpu as nn
from ffnn_gpu.checkpoints import checkpoint, tensor_file

SCRIPT = Path(__file__).parents[1] / "golden" / "make_checkpoints.py"
spec = importlib.util.spec_from_file_location("make_checkpoints", SCRIPT)
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)
NAMES = ["format-1-bfloat16", "format-1-float32", "format-1-inputs-bfloat16", "format-1-inputs-float32",
         "format-2-bfloat16", "format-2-float32"]  # fmt: skip
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
def test_golden_training_can_be_resumed(name, tmp_path):
    shutil.copytree(maker.FOLDER / name, tmp_path / "run")
    network = nn.Network(3, maker.LAYERS, "numpy", name.split("-")[-1], seed=7)
    stored = checkpoint.read(tmp_path / "run" / "last", "numpy")[1]["training"]["history"]
    history = maker.train(network, tmp_path / "run", 4, resume=True)
    assert len(stored) == 2 and history.rows[:2] == stored and len(history) == 4
    assert int(network.params.step[0]) == 12
    before = {file: file.read_bytes() for file in (maker.FOLDER / name).rglob("*.*")}
    assert {tmp_path / "run" / file.relative_to(maker.FOLDER / name) for file in before} <= {
        *tmp_path.rglob("*.*")
    }
    assert checkpoint.find(tmp_path / "run" / "last") == tmp_path / "run" / "last.safetensors"
    # The folder of the old format has not changed.
    if name.startswith("format-1"):
        assert {(tmp_path / "run" / f.relative_to(maker.FOLDER / name)).read_bytes() for f in before} == {
            *before.values()
        }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_written_format_equals_the_golden_files(dtype, tmp_path):
    """If a field is added, removed or renamed, increase FORMAT and write new golden files."""
    maker.write(tmp_path / "now", dtype)
    for name in ("last", "exact"):
        (arrays, values), (golden, stored) = (
            tensor_file.read(folder / f"{name}.safetensors")
            for folder in (tmp_path / "now", maker.FOLDER / f"format-2-{dtype}")
        )
        assert values["format_version"] == stored["format_version"] == checkpoint.FORMAT
        assert values["architecture"] == stored["architecture"] and shape_of(values) == shape_of(stored)
        kinds, wanted = ({n: (a.dtype, a.shape) for n, a in group.items()} for group in (arrays, golden))
        assert kinds == wanted


def shape_of(value):
    """Return the keys and types of a JSON value."""
    if isinstance(value, dict):
        return {key: shape_of(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [shape_of(entry) for entry in value]
    return (
        "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
    )

"""Weights go to PyTorch and come back: names, layout and outputs are those of PyTorch's own modules."""

import numpy as np
import pytest
import safetensors.numpy

from ffnn_gpu import Model, Network, export_state_dict, load_state_dict
from ffnn_gpu.errors import (
    CheckpointCorruptError,
    CheckpointError,
    ConfigurationError,
    IncompatibleCheckpointError,
)
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.export.state_dict import state_dict
from ffnn_gpu.nn.layers import Average, BatchNorm, Dense, Dropout, Embedding, LayerNorm, Residual, Softmax
from tests.export.models import scattered

LAYERS = [
    Embedding((4, 3), (2, 5)),
    Dense(6, "relu"),
    BatchNorm(eps=1e-3),
    Dropout(0.5),
    Residual([LayerNorm(), Dense(4, "gelu"), Dense(6, bias=False)]),
    Dense(3),
    Softmax(),
]


def network_of(layers=LAYERS, n_in=4, dtype="float64"):
    return Network(n_in, layers, "numpy", dtype, seed=5)


@pytest.fixture
def stored(golden):
    """Return the state_dict that PyTorch made."""
    weights = golden("state_dict")["weights"]
    return {name: np.array(value) for name, value in weights.items()}


@pytest.fixture
def file(tmp_path):
    """Return a function that writes arrays to a safetensors file, as PyTorch would."""

    def write(arrays):
        safetensors.numpy.save_file(arrays, tmp_path / "torch.safetensors")
        return tmp_path / "torch.safetensors"

    return write


def test_weights_of_pytorch_give_the_outputs_of_pytorch(golden, stored, file):
    network, case = network_of(), golden("state_dict")
    load_state_dict(network, file(stored))
    np.testing.assert_allclose(network.predict(np.array(case["x"])), case["out"], rtol=1e-13)


def test_exported_weights_have_the_names_shapes_and_numbers_of_pytorch(stored, file, tmp_path):
    network = network_of()
    load_state_dict(network, file(stored))
    export_state_dict(network, tmp_path / "ours.safetensors")
    got = safetensors.numpy.load_file(tmp_path / "ours.safetensors")
    assert got.keys() == stored.keys()
    for name, array in stored.items():
        if not name.endswith("num_batches_tracked"):  # the updates of this network: none
            np.testing.assert_array_equal(got[name], array, strict=True)
    assert got["3.num_batches_tracked"].dtype == np.int64 and got["3.num_batches_tracked"].shape == ()
    with safetensors.safe_open(tmp_path / "ours.safetensors", "numpy") as opened:
        assert opened.metadata() == {"format": "pt"}


def test_pytorch_itself_loads_the_file(tmp_path):
    torch = pytest.importorskip("torch", exc_type=ImportError, reason="PyTorch is not installed")
    from safetensors.torch import load_file, save_file

    layers = [Dense(5, "tanh"), BatchNorm(), Dense(4, bias=False), LayerNorm(), Dropout(0.1), Dense(2)]
    network = scattered(network_of(layers, 3, "float32"))
    export_state_dict(network, tmp_path / "ours.safetensors")
    nn = torch.nn
    module = nn.Sequential(
        nn.Linear(3, 5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 4, bias=False), nn.LayerNorm(4),
        nn.Dropout(0.1), nn.Linear(4, 2),
    ).float()  # fmt: skip
    module.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True)
    module.eval()
    x = np.linspace(-1, 1, 30, dtype="float32").reshape(10, 3)
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach().numpy(), network.predict(x), rtol=1e-5)
    save_file(module.state_dict(), tmp_path / "theirs.safetensors")
    again = network_of(layers, 3, "float32")
    load_state_dict(again, tmp_path / "theirs.safetensors")
    np.testing.assert_array_equal(again.params.theta, network.params.theta)
    np.testing.assert_array_equal(again.params.state, network.params.state)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_round_trip_keeps_every_bit(dtype, tmp_path):
    network = scattered(network_of(dtype=dtype))
    export_state_dict(network, tmp_path / "w.safetensors")
    again = network_of(dtype=dtype)
    load_state_dict(again, tmp_path / "w.safetensors")
    for name, array in network.params.to_host().items():
        np.testing.assert_array_equal(again.params.to_host()[name], array, strict=True)


def test_model_exports_and_reads_the_weights_of_its_network(tmp_path):
    model = Model(network_of([Dense(1)], 3), Task.of(np.array(["a", "b"])))
    export_state_dict(model, tmp_path / "w.safetensors")
    other = Model(scattered(network_of([Dense(1)], 3)), model.task)
    load_state_dict(other, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(other.network.params.theta, model.network.params.theta)


@pytest.mark.parametrize("given", ["float16", "float32", "bfloat16"])
def test_numbers_of_another_type_are_rounded_to_the_network(given, file):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = np.dtype(ml_dtypes.bfloat16 if given == "bfloat16" else given)
    arrays = {name: array.astype(dtype) for name, array in state_dict(network_of([Dense(2)], 3)).items()}
    network = network_of([Dense(2)], 3)
    load_state_dict(network, file(arrays))
    np.testing.assert_array_equal(network.params.to_host()["0.W"], arrays["0.weight"].T.astype("float64"))


def changed(arrays, name, array):
    return {**arrays, name: array}


@pytest.mark.parametrize(
    ("change", "error", "complaint"),
    [
        (
            lambda a: {name: a[name] for name in a if name != "0.bias"},
            IncompatibleCheckpointError,
            r"lacks '0.bias', which this network needs with shape \(2,\); it has 0.weight",
        ),
        (lambda a: {}, IncompatibleCheckpointError, "lacks '0.weight', .*; it has no arrays"),
        (
            lambda a: changed(a, "1.weight", np.ones(2)),
            IncompatibleCheckpointError,
            "has '1.weight', which does not belong to this network",
        ),
        (
            lambda a: changed(a, "0.weight", a["0.weight"].T.copy()),
            IncompatibleCheckpointError,
            r"'0.weight' has shape \(3, 2\); this network needs \(2, 3\)",
        ),
        (
            lambda a: changed(a, "0.bias", np.ones(2, np.int64)),
            IncompatibleCheckpointError,
            "'0.bias' is int64; weights are floats",
        ),
        (
            lambda a: changed(a, "0.bias", np.ones(2, np.uint8)),
            IncompatibleCheckpointError,
            "'0.bias' holds numbers of type U8; a network reads F64, F32",
        ),
        (
            lambda a: changed(a, "0.bias", np.array([1.0, 1e300])),
            CheckpointError,
            "'0.bias' holds a number that is not finite in float32",
        ),
    ],
)
def test_file_that_does_not_fit_is_refused_and_changes_nothing(change, error, complaint, file):
    network = network_of([Dense(2)], 3, "float32")
    before = network.params.theta.copy()
    with pytest.raises(error, match=complaint):
        load_state_dict(network, file(change(state_dict(network))))
    np.testing.assert_array_equal(network.params.theta, before)


def test_file_that_cannot_be_read_is_named(tmp_path):
    network = network_of([Dense(2)], 3)
    with pytest.raises(CheckpointError, match=r"no.safetensors cannot be read: No such file"):
        load_state_dict(network, tmp_path / "no.safetensors")
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(CheckpointCorruptError, match="text is no safetensors file"):
        load_state_dict(network, tmp_path / "text")


def test_layer_of_a_user_has_no_counterpart(tmp_path):
    class Mine(Dense):
        pass

    with pytest.raises(ConfigurationError, match=r"layer 0 is Mine\(2\); a state_dict holds Dense"):
        export_state_dict(network_of([Mine(2)], 3), tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


def test_average_has_the_numbering_of_a_module_list(file):
    layers = [Average([[Dense(3, "relu"), Dense(2)], Dense(2)]), Dense(2)]
    names = state_dict(network_of(layers, 4)).keys()
    members = "0.members.0.0", "0.members.0.2", "0.members.1.0", "1"
    assert [*names] == [f"{member}.{part}" for member in members for part in ("weight", "bias")]
    network, other = scattered(network_of(layers, 4)), network_of(layers, 4)
    load_state_dict(other, file(state_dict(network)))
    np.testing.assert_array_equal(other.params.theta, network.params.theta)

import copy
import itertools
import pickle
import sys

import numpy as np
import pytest

import ffnn_gpu
from ffnn_gpu import SGD, Network, mean_squared_error, train_step
from ffnn_gpu.backends.choice import Backend, NumpyBackend
from ffnn_gpu.errors import BackendMismatchError, ConfigurationError, DataError, DivergedError, ShapeError
from ffnn_gpu.nn.activations import gelu, relu, tanh
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, LayerNorm, LogSoftmax, Residual, Softmax
from ffnn_gpu.testing import assert_close, tolerance

ALL_LAYERS = [
    Dense(6, gelu), LayerNorm(), Dropout(0.25), Residual([Dense(5, relu, bias=False), Dense(6)]),
    BatchNorm(momentum=0.2),
    Dense(4, ffnn_gpu.elu.with_alpha(0.5), weights=ffnn_gpu.orthogonal), Softmax(), LogSoftmax(),
]  # fmt: skip


def make(backend="numpy", dtype="float32", layers=(Dense(5, tanh), Dense(2)), n_in=3, seed=0):
    return Network(n_in, layers, backend, dtype, seed)


def batch(n, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def train(network, x, y, steps=1):
    """Return a network after training, so that its parameters differ from the initial ones."""
    x, y = (network.backend.asarray(array, network.dtype) for array in (x, y))
    ws = network.workspace(len(x))
    for _ in range(steps):
        train_step(network, mean_squared_error, SGD(lr=0.1), x, y, ws)
    return network


def assert_same_numbers(got, want):
    for name, value in want.params.to_host().items():
        np.testing.assert_array_equal(got.params.to_host()[name], value, err_msg=name)
    assert int(got.params.step[0]) == int(want.params.step[0])


# ---------------------------------------------------------------------- identity


def test_repr_evaluates_to_an_equal_network():
    network = make(layers=ALL_LAYERS, dtype="float64", seed=4)
    public = (ffnn_gpu, ffnn_gpu.layers, ffnn_gpu.activations, ffnn_gpu.initializers)
    names = {name: getattr(module, name) for module in public for name in module.__all__}
    back = eval(repr(network), names)  # noqa: S307  our own text
    assert back == network and repr(back) == repr(network) and back.dtype == network.dtype and back.seed == 4
    assert_same_numbers(back, network)


def test_networks_compare_by_architecture():
    assert make() == make(seed=1) == make(dtype="float64") and hash(make()) == hash(make(seed=1))
    assert (
        make() != make(layers=[Dense(5, relu), Dense(2)]) and make() != make(n_in=4) and make() != "Network"
    )


def test_equal_seeds_give_equal_parameters_and_other_seeds_others(backend, dtype):
    assert_same_numbers(make(backend, dtype), make(backend, dtype))
    here, there = make(backend, dtype).params.to_host(), make(backend, dtype, seed=1).params.to_host()
    assert (here["0.W"] != there["0.W"]).all()


def test_default_seed_is_0():
    network = Network(3, [Dense(4)], "numpy")
    assert network.seed == 0 == network.workspace(1).stream.seed
    assert_same_numbers(network, Network(3, [Dense(4)], "numpy", seed=0))


def test_initial_numbers_are_equal_on_every_backend(backend, dtype):
    assert_same_numbers(make(backend, dtype, ALL_LAYERS), make(NumpyBackend(), dtype, ALL_LAYERS))


def test_initial_values_of_a_layer_do_not_depend_on_later_layers(backend):
    short, long = make(backend, layers=[Dense(5)]), make(backend, layers=[Dense(5), Dense(9)])
    np.testing.assert_array_equal(short.params.to_host()["0.W"], long.params.to_host()["0.W"])


def test_layers_of_equal_shape_have_different_initial_values(backend):
    equal = [Dense(3, tanh), Dense(3, tanh)]
    numbers = make(backend, layers=[*equal, Residual(equal)]).params.to_host()
    starts = [numbers[name] for name in ("0.W", "1.W", "2.layers.0.W", "2.layers.1.W")]
    assert all((a != b).all() for a, b in itertools.combinations(starts, 2))


def test_deepcopy_is_equal_and_independent(backend, dtype):
    network = train(make(backend, dtype, [Dense(5), BatchNorm(), Dense(2)]), batch(8), batch(8, 2))
    twin = copy.deepcopy(network)
    assert twin == network and twin.backend is network.backend
    assert_same_numbers(twin, network)
    before = network.params.to_host()
    train(twin, batch(8), batch(8, 2))
    for name, value in network.params.to_host().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("name", ["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def test_pickle_returns_the_trained_network(name, dtype):
    network = train(make(name, dtype, [Dense(5, gelu), BatchNorm(), Dense(2)], seed=3), batch(8), batch(8, 2))
    back = pickle.loads(pickle.dumps(network))  # noqa: S301
    assert back == network and back.backend.name == name and back.seed == 3
    assert_same_numbers(back, network)


def test_pickle_returns_the_backend_object():
    """A network created with a Backend object has it after pickling."""
    back = pickle.loads(pickle.dumps(make(ffnn_gpu.Backend())))  # noqa: S301
    assert back.backend.name == "reference"


def test_to_another_backend_copies_every_bit(backend, dtype):
    network = train(make(NumpyBackend(), dtype, [Dense(5), BatchNorm(), Dense(2)]), batch(8), batch(8, 2))
    moved = network.to(backend)
    assert moved.backend is backend and moved == network
    assert_same_numbers(moved, network)


# ---------------------------------------------------------------------- summary


def test_summary_counts_parameters_flops_and_bytes():
    text = make(layers=[Dense(5, relu), LayerNorm(), Residual([Dense(5, bias=False)]), Dense(2)]).summary()
    lines = text.replace(",", "").replace("Dense(5 ", "Dense(5, ").splitlines()
    rows = {line.split("  ")[0]: [int(cell) for cell in line.split()[-4:]] for line in lines[2:-2]}
    assert rows["Dense(5, relu)"] == [5, 3 * 5 + 5, 2 * 3 * 5 + 5, 80]
    assert rows["LayerNorm()"] == [5, 10, 40, 40]
    assert rows["Residual((Dense(5, bias=False)))"][:2] == [5, 25]
    assert rows["Dense(2)"] == [2, 12, 22, 48]
    total = [int(cell) for cell in lines[-1].split()[1:]]
    assert total == [2, 67, sum(row[2] for row in rows.values()), 268]


def test_summary_counts_the_parameters_of_the_network():
    network = make(layers=ALL_LAYERS, dtype="float64")
    assert f"{network.params.count:,}" in network.summary().splitlines()[-1].split()


# ---------------------------------------------------------------------- predict


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64, 1000])
def test_prediction_does_not_depend_on_the_batch_size(backend, dtype, batch_size):
    network, x = make(backend, dtype, ALL_LAYERS), batch(64)
    whole, parts = network.predict(x), network.predict(x, batch_size=batch_size)
    assert_close(parts, whole, tolerance("network", dtype, K=6, L=4), "z")
    assert isinstance(parts, np.ndarray) and parts.dtype == dtype


def test_batch_size_may_be_a_numpy_integer(backend):
    network, x = make(backend), batch(5)
    np.testing.assert_array_equal(
        network.predict(x, batch_size=np.int64(2)), network.predict(x, batch_size=2)
    )


class WithDlpack:
    """An array of another library, with the DLPack protocol."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **settings):
        return self.array.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def read_only(x, folder):
    x = x.copy()
    x.flags.writeable = False
    return x


def memory_mapped(x, folder):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


KINDS = {
    "C order": lambda x, folder: x.copy(),
    "Fortran order": lambda x, folder: np.asfortranarray(x),
    "strided": lambda x, folder: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "negative stride": lambda x, folder: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": read_only,
    "memory-mapped": memory_mapped,
    "list": lambda x, folder: x.tolist(),
    "big-endian": lambda x, folder: x.astype(">f8"),
    "dlpack": lambda x, folder: WithDlpack(x.copy()),
    "float32": lambda x, folder: x.astype(np.float32),
    "int64": lambda x, folder: x.astype(np.int64),
    "int8": lambda x, folder: x.astype(np.int8),
    "uint8": lambda x, folder: x.astype(np.uint8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_accepts_any_kind_of_array_and_does_not_change_it(backend, dtype, kind, tmp_path):
    network = make(backend, dtype)
    x = np.random.default_rng(0).integers(0, 100, (10, 3)).astype(np.float64)  # exact in every type
    given, twin = (KINDS[kind](x, folder) for folder in (tmp_path, tmp_path))
    got = network.predict(given, batch_size=4)
    np.testing.assert_array_equal(got, network.predict(x.astype(dtype), batch_size=4))
    np.testing.assert_array_equal(
        np.from_dlpack(given) if kind == "dlpack" else given, getattr(twin, "array", twin)
    )


def test_prediction_accepts_torch_tensors(backend, dtype):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    network, x = make(backend, dtype), batch(5).astype(np.float32)
    np.testing.assert_array_equal(network.predict(torch.from_numpy(x.copy())), network.predict(x))


def test_booleans_are_numbers(backend):
    network, x = make(backend), batch(5) > 0
    np.testing.assert_array_equal(network.predict(x), network.predict(x.astype(np.float32)))


def test_prediction_of_zero_rows_has_zero_rows(backend, dtype):
    for layers in ([Dense(2)], ALL_LAYERS, []):
        network = make(backend, dtype, layers)
        z = network.predict(np.zeros((0, 3)))
        assert z.shape == (0, network.widths[-1]) and z.dtype == dtype
        assert network.forward(backend.zeros((0, 3), network.dtype), network.workspace(0)).shape == z.shape


def test_prediction_of_one_row_equals_its_row_in_a_batch(backend, dtype):
    network, x = make(backend, dtype, ALL_LAYERS), batch(9)
    assert_close(network.predict(x[3:4]), network.predict(x)[3:4], tolerance("network", dtype, K=6, L=4), "z")


def test_prediction_does_not_change_the_network(backend, dtype):
    network = train(make(backend, dtype, ALL_LAYERS), batch(8), batch(8, 4))
    before = copy.deepcopy(network)
    network.predict(batch(20))
    assert_same_numbers(network, before)


BAD = {  # rows → (exception, message)
    "x has 4 columns; layer 0 of this network reads 3": (ShapeError, np.zeros((2, 4))),
    r"x has shape \(3,\); it must be a matrix": (ShapeError, np.zeros(3)),
    r"x has shape \(2, 3, 1\); it must be": (ShapeError, np.zeros((2, 3, 1))),
    r"x holds 2 values that are not finite; the first is nan at index \(1, 2\)": (
        DataError, np.array([[1, 2, 3], [1, 2, np.nan], [np.inf, 0, 0]]),
    ),
    r"x holds 1 values that are too large for float32; the first is 1e\+39 at index \(0, 1\)": (
        DataError, np.array([[1, 1e39, 3]]),
    ),
    "dtype complex128; a network reads real": (DataError, np.zeros((2, 3), complex)),
    "dtype <U1; a network reads real": (DataError, np.full((2, 3), "1")),
    "object": (DataError, np.full((2, 3), None)),
    "list cannot be read": (DataError, [[1, 2, 3], [1, 2]]),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_prediction_rejects_bad_rows(backend, message):
    kind, x = BAD[message]
    with pytest.raises(kind, match=message):
        make(backend).predict(x)


def test_prediction_of_a_diverged_network_raises(backend):
    network = make(backend)
    network.params.theta[0] = float("nan")
    with pytest.raises(DivergedError, match="not finite"):
        network.predict(batch(3))


@pytest.mark.gpu
def test_host_array_into_a_gpu_network_raises():
    network = make("cupy")
    with pytest.raises(BackendMismatchError, match="numpy"):
        network.forward(batch(2).astype(np.float32), network.workspace(2))


def test_forward_rejects_values_that_are_not_arrays(backend):
    network = make(backend)
    with pytest.raises(BackendMismatchError, match="list"):
        network.forward([[1.0, 2.0, 3.0]], network.workspace(1))


# ---------------------------------------------------------------------- passes


def test_forward_and_backward_do_not_change_the_input(backend, dtype):
    network = make(backend, dtype, ALL_LAYERS)
    x = backend.asarray(batch(6), network.dtype)
    kept = np.array(backend.to_host(x))
    ws = network.workspace(6, input_gradient=True)
    network.forward(x, ws)
    network.backward(backend.asarray(batch(6, 4), network.dtype), ws)
    np.testing.assert_array_equal(backend.to_host(x), kept)


def test_forward_casts_integers_once_to_their_values(backend, dtype):
    network, x = make(backend, dtype), np.array([[0, 255, 7]], np.uint8)
    got = network.forward(backend.asarray(x), network.workspace(1))
    np.testing.assert_array_equal(backend.to_host(got), network.predict(x.astype(dtype)))


STACKS = {
    "nothing": [],
    "softmax": [Softmax()],
    "dropout": [Dropout(0.5)],
    "layer norm": [LayerNorm()],
    "batch norm": [BatchNorm()],
    "dense": [Dense(2)],
    "dropout, dense": [Dropout(0.5), Dense(2)],
    "softmax, dense": [Softmax(), Dense(2)],
    "residual": [Residual([Dense(3)])],
    "residual softmax": [Residual([Softmax()])],
    "residual of residual": [Residual([Residual([Dropout(0.5), Dense(3, tanh)]), Softmax()])],
}


@pytest.mark.parametrize("stack", STACKS)
def test_backward_returns_dx_only_if_requested(backend, dtype, stack):
    network = make(backend, dtype, STACKS[stack])
    x, dz = backend.asarray(batch(4), network.dtype), batch(4, network.widths[-1], seed=1)
    found = []
    for asked in (True, False):
        ws = network.workspace(4, input_gradient=asked)
        network.forward(x, ws)
        dx = network.backward(backend.asarray(dz.astype(dtype)), ws)  # a copy, because backward overwrites it
        found.append((dx, np.array(backend.to_host(network.params.grad))))
    (dx, with_dx), (nothing, without) = found
    assert dx.shape == (4, 3) and dx.dtype == dtype
    assert nothing is None
    np.testing.assert_array_equal(without, with_dx)


def test_network_without_layers_is_the_identity(backend, dtype):
    network, x = make(backend, dtype, []), batch(4).astype(dtype)
    np.testing.assert_array_equal(network.predict(x), x)
    assert network.params.count == 0 and "total" in network.summary()


def test_network_without_hidden_layers_is_linear(backend, dtype):
    network, x = make(backend, dtype, [Dense(2)]), batch(4).astype(dtype)
    numbers = network.params.to_host()
    want = x.astype(np.float64) @ numbers["0.W"].astype(np.float64) + numbers["0.b"]
    assert_close(network.predict(x), want, tolerance("network", dtype, K=4), "z")


def test_network_of_200_layers_trains(backend, dtype):
    network = make(
        backend, dtype, [Residual([Dense(4, tanh)])] * 100 + [Dense(4, tanh)] * 99 + [Dense(1)], n_in=4
    )
    train(network, batch(5, 4), batch(5, 1), steps=2)
    assert all(np.isfinite(value).all() for value in network.params.to_host().values())
    assert len(network.layers) == 200 and np.isfinite(network.predict(batch(5, 4))).all()


def test_network_of_width_one_trains(backend, dtype):
    network = make(
        backend, dtype, [Dense(1, tanh), BatchNorm(), LayerNorm(), Residual([Dense(1)]), Dense(1)], n_in=1
    )
    train(network, batch(2, 1), batch(2, 1), steps=3)
    assert np.isfinite(network.predict(batch(4, 1))).all()


def test_dtypes_do_not_change_in_three_steps(backend, dtype):
    network = train(make(backend, dtype, ALL_LAYERS), batch(6), batch(6, 4), steps=3)
    ws = network.workspace(6)
    value = mean_squared_error(
        backend, network.forward(backend.asarray(batch(6), dtype), ws), batch(6, 4), dz=ws.dz
    )
    network.backward(ws.dz, ws)
    params = network.params
    assert {str(array.dtype) for array in (value, ws.dz, params.theta, params.grad, params.state)} == {dtype}


# ---------------------------------------------------------------------- bad settings

SETTINGS = {
    "n_in must be a whole number of at least 1, not 0": {"n_in": 0},
    "n_in must be a whole number of at least 1, not 2.5": {"n_in": 2.5},
    "layers such as Dense": {"layers": [10]},
    "seed must be a whole number": {"seed": -1},
    "seed must be a whole number of": {"seed": 1.5},
    "dtype 'int16' is not supported": {"dtype": "int16"},
    "no device is called 'tpu'": {"backend": "tpu"},  # of `make`
}


def test_device_has_one_name_and_its_old_one_warns():
    network = Network(3, [Dense(2)], device="numpy")
    with pytest.warns(DeprecationWarning, match="backend= is now called device=") as warned:
        assert Network(3, [Dense(2)], backend=network.backend).backend is network.backend
    assert warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="backend= is now called device="):
        assert network.to(backend="cpu") == network.to(device="cpu") == network
    with pytest.raises(ConfigurationError, match="backend= is the old name of device=; give device= alone"):
        Network(3, [Dense(2)], device="numpy", backend="numpy")


@pytest.mark.parametrize("message", SETTINGS)
def test_network_rejects_bad_settings(message):
    with pytest.raises(ConfigurationError, match=message):
        make(**SETTINGS[message])


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
def test_prediction_rejects_bad_batch_sizes(batch_size):
    with pytest.raises(ConfigurationError, match="batch_size must be a whole number"):
        make().predict(batch(2), batch_size=batch_size)


def test_base_layer_names_the_missing_method():
    network = make(layers=[Layer()])
    with pytest.raises(NotImplementedError, match="Layer has no forward"):
        network.predict(batch(2))


def test_layer_without_backward_is_named_when_it_is_trained():
    class Forward(Layer):
        def forward(self, backend, p, x, buf):
            buf.a[...] = x
            return buf.a

    network = make(layers=[Forward()])
    y = np.zeros_like(network.predict(batch(2)))
    with pytest.raises(NotImplementedError, match="Forward has no backward"):
        train_step(network, mean_squared_error, SGD(0.1), batch(2), y, network.workspace(2))


def test_layer_that_does_not_return_its_gradient_is_named(backend):
    class Forgets(Dense):
        def backward(self, backend, p, da, buf):
            super().backward(backend, p, da, buf)

    network = make(backend, layers=[Dense(3), Forgets(2)])
    ws = network.workspace(4)
    network.forward(backend.asarray(batch(4), network.dtype), ws)
    with pytest.raises(ConfigurationError, match=r"Forgets\.backward returned None.*must return dx"):
        network.backward(backend.zeros((4, 2), network.dtype), ws)


def test_backward_rejects_a_wrong_dz_and_the_pass_stays_valid(backend):
    network = make(backend)
    ws = network.workspace(4)
    network.forward(network.backend.asarray(batch(4), "float32"), ws)
    with pytest.raises(ShapeError, match=r"dz has shape \(3, 2\); this pass has outputs \(4, 2\)"):
        network.backward(network.backend.zeros((3, 2), "float32"), ws)
    with pytest.raises(BackendMismatchError, match=r"dz is a builtins\.list"):
        network.backward([[0.0, 0.0]] * 4, ws)
    network.backward(network.backend.zeros((4, 2), "float32"), ws)


def test_predict_with_diverged_parameters_raises_before_numpy_warns():
    network = make(layers=[Dense(5, relu), Dense(2)])
    network.params.theta *= np.float32(1e30)
    with pytest.raises(DivergedError, match="its parameters diverged"):
        network.predict(batch(4) * 1e10)


def test_repr_of_numpy_numbers_is_python_code():
    assert repr(Dense(np.int64(4))) == "Dense(4)" and repr(Dropout(np.float64(0.5))) == "Dropout(0.5)"


@pytest.mark.parametrize("layer", [Dense(4, gelu), LayerNorm(), BatchNorm(), Dropout(0.5)], ids=repr)
@pytest.mark.parametrize("scale", [1e-30, 1e3])
def test_underflow_in_a_pass_gives_no_warning(layer, scale):
    network = make(layers=[Dense(4, ffnn_gpu.sigmoid), layer, Dense(2)])
    ws = network.workspace(16, input_gradient=True)
    x, dz = (batch(16) * scale).astype(np.float32), np.full((16, 2), 1e-37, np.float32)
    with np.errstate(all="raise"):
        network.forward(x, ws)
        network.backward(dz, ws)
        network.predict(x)


def test_underflow_in_a_custom_layer_gives_no_warning():
    class Shrinks(Layer):
        def buffer_shapes(self, B, I):
            return {"a": (B, I), "dx": (B, I)}

        def forward(self, backend, p, x, buf):
            return x * np.float32(1e-30)

        def backward(self, backend, p, da, buf):
            return da * np.float32(1e-30)

    network = Network(3, [Dense(3), Shrinks()], "numpy")
    ws = network.workspace(2)
    with np.errstate(all="raise"):
        network.forward(np.full((2, 3), 1.1e-10, np.float32), ws)
        network.backward(np.full((2, 3), 1.1e-10, np.float32), ws)


def test_default_workspace_is_for_training_without_the_gradient_at_x():
    ws = make().workspace(2)
    assert ws.training and not ws.input_gradient and (ws.stream.seed, ws.stream.row) == (0, 0)


def test_prediction_of_many_rows_has_no_dropout():
    network, x = Network(3, [Dropout(0.5)], "numpy"), batch(200).astype(np.float32)
    for rows in (1, 64, 65, 200):
        np.testing.assert_array_equal(network.predict(x[:rows]), x[:rows])


def test_layer_instead_of_a_list_raises():
    with pytest.raises(ConfigurationError, match=r"layers is a list: Network\(4, \[Dense\(3\)\]\)"):
        Network(4, Dense(3), "numpy")


def test_initial_value_of_a_wrong_shape_names_the_parameter():
    class Unset(Dense):
        def initial_values(self, rng, I):
            return {"W": np.zeros((I, self.width))}

    with pytest.raises(
        ConfigurationError, match=r"a layer do not match its parameter_shapes: 0\.b is missing"
    ):
        Network(4, [Unset(3)], "numpy")


def test_network_predicts_again_after_an_interrupted_prediction(monkeypatch):
    network = Network(4, [Dense(3)], "numpy")
    want = network.predict(np.ones((2, 4)))
    ws = network._threads.ws.first(2)
    for ending in ("end_pass", "forget_pass"):
        monkeypatch.setattr(ws, ending, lambda: None)  # as if Ctrl-C came before it

    def interrupted(*args, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(network.backend, "copy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            network.predict(np.ones((2, 4)))
    np.testing.assert_array_equal(network.predict(np.ones((2, 4))), want)


def test_predictions_keep_no_reference_to_the_callers_arrays():
    network = Network(4, [Residual([Dense(4)]), Dense(3)], "numpy")
    x = np.ones((5, 4), np.float32)
    network.predict(x)
    assert sys.getrefcount(x) == 2


def test_prediction_uses_exchanged_parameters():
    network, other = Network(4, [Dense(3)], "numpy", seed=0), Network(4, [Dense(3)], "numpy", seed=1)
    network.predict(np.ones((2, 4)))
    network.params = other.params
    np.testing.assert_array_equal(network.predict(np.ones((2, 4))), other.predict(np.ones((2, 4))))


@pytest.mark.parametrize(
    ("width", "rows", "kept"), [(3, 64, 64), (3, 1, 64), (3, 65, None), (16_380, 1, 64), (16_381, 1, None)]
)
def test_workspace_of_64_rows_and_at_most_2_20_numbers_is_cached(width, rows, kept):
    network = Network(4, [Dense(width)], "numpy")
    network.predict(np.ones((rows, 4)))
    assert getattr(getattr(network._threads, "ws", None), "B", None) == kept


@pytest.mark.parametrize(("kind", "parts"), [(Backend, [4096, 904]), (NumpyBackend, [1024] * 4 + [904])])
def test_prediction_uses_batches_of_the_devices_size(kind, parts, monkeypatch):
    network, rows = Network(1, [Dense(1)], kind()), []
    run = network.run
    monkeypatch.setattr(network, "run", lambda x, ws: rows.append(len(x)) or run(x, ws))
    monkeypatch.setattr(network, "forward", network.run)
    network.predict(np.zeros((5000, 1)))
    assert rows == parts


def test_workspace_of_a_wide_network_is_not_cached():
    network = Network(4, [Dense(100_000), Dense(1)], "numpy")
    network.predict(np.ones((1, 4)))
    assert getattr(network._threads, "ws", None) is None

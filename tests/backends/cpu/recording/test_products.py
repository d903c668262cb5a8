"""Steps whose products are in AMX's tiles equal those of the reference, for any number of threads."""

import importlib

import numpy as np
import pytest

from ffnn_gpu import SGD, Backend, Dense, Network, relu, softmax_cross_entropy, tanh, train_step
from ffnn_gpu.backends.choice import CompiledBackend
from ffnn_gpu.testing import assert_close, tolerance

pytest.importorskip("llvmlite")
amx_tiles = importlib.import_module("ffnn_gpu.backends.cpu.loops.amx_tiles")
command = importlib.import_module("ffnn_gpu.backends.cpu.recording.commands").command
products = importlib.import_module("ffnn_gpu.backends.cpu.recording.products")
pytestmark = pytest.mark.skipif(not amx_tiles.available(), reason="this processor or system has no AMX")
N_IN, ROWS, LAYERS = 70, 64, (Dense(96, tanh), Dense(64, relu), Dense(40))
PRODUCTS = 8  # of a step: 3 forward, 3 for dW, 2 for dx


def batch(dtype="float32"):
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, N_IN)).astype(dtype), rng.integers(0, 40, ROWS)


def stepped(backend, dtype="float32", steps=2, x=None, layers=LAYERS, seed=1, members=None):
    """Return the network after some steps, and the addresses of the recorded commands."""
    network = Network(N_IN, list(layers), backend, dtype, seed=seed, members=members)
    ws, optimizer = network.workspace(ROWS), SGD(0.1)
    for _ in range(steps):
        train_step(network, softmax_cross_entropy, optimizer, batch()[0] if x is None else x, batch()[1], ws)
    tables = [recording.table for recording in ws.recordings]
    return network, [row[0] for table in tables for row in table.rows]


def count(addresses, name):
    return addresses.count(command(name, np.dtype(np.float32)).address)


@pytest.fixture
def registers(monkeypatch):
    """Return a function that returns its argument's result without AMX."""

    def run(function):
        with monkeypatch.context() as patch:
            patch.setattr(amx_tiles, "available", lambda: False)
            return function()

    return run


@pytest.mark.parametrize("threads", [1, 3])
def test_steps_equal_those_of_the_reference(threads):
    network, commands = stepped(CompiledBackend(threads))
    assert (count(commands, "amx_product"), count(commands, "product")) == (PRODUCTS, 0)
    expected = stepped(Backend())[0].params
    bound = tolerance("network", "float32", K=96)
    assert_close(network.params.grad, expected.grad, bound, "∇θ", scale=abs(expected.grad).max())


def test_steps_have_as_many_commands_as_in_registers(registers):
    """The derivatives of activations are tails of products in both."""
    commands, others = (run(lambda: stepped(CompiledBackend(1)))[1] for run in (lambda f: f(), registers))
    assert len(commands) == len(others) and count(others, "product") == PRODUCTS


def test_steps_are_the_same_bit_for_bit_for_any_number_of_threads():
    one, *others = (stepped(CompiledBackend(threads))[0].params.theta for threads in (1, 2, 3, 5))
    assert all(other.tobytes() == one.tobytes() for other in others)


def test_steps_in_bfloat16_equal_those_in_registers(registers):
    pytest.importorskip("ml_dtypes")
    network, commands = stepped(CompiledBackend(2), "bfloat16", steps=1)
    assert count(commands, "amx_bfloat16_product") == PRODUCTS
    other, commands = registers(lambda: stepped(CompiledBackend(2), "bfloat16", steps=1))
    assert count(commands, "product") == PRODUCTS
    found, expected = network.params.grad, other.params.grad
    assert (
        np.median(abs(found - expected)) <= 1e-6 * abs(expected).max()
    )  # of a few, a factor is rounded apart
    assert_close(found, expected, 2.0**-8, "∇θ", scale=abs(expected).max())


@pytest.mark.parametrize(
    ("dtype", "name"), [("float32", "amx_product"), ("bfloat16", "amx_bfloat16_product")]
)
def test_members_of_a_pack_equal_plain_networks_bit_for_bit(dtype, name):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    pack = stepped(CompiledBackend(2), dtype, members=2)[0].params
    for r in range(2):
        network, commands = stepped(CompiledBackend(1), dtype, seed=1 + r)
        assert count(commands, name) == PRODUCTS
        for ours, theirs in zip(pack.slots, network.params.slots, strict=True):
            found, expected = ours.view(pack.theta)[r], theirs.view(network.params.theta)
            assert found.tobytes() == expected.tobytes(), (r, ours.name)


@pytest.mark.parametrize("value", [np.inf, np.nan, np.finfo(np.float32).max, 1e-42])
def test_special_numbers_have_the_same_effect_as_in_registers(registers, value):
    x, _ = batch()
    x[7, 5] = value
    layers = (Dense(96, relu), Dense(64), Dense(40))
    found, expected = (
        run(lambda: stepped(CompiledBackend(1), steps=1, x=x, layers=layers)[0].params.grad)
        for run in (lambda f: f(), registers)
    )
    for same in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(same(found), same(expected))
    finite = np.isfinite(expected)
    assert_close(found[finite], expected[finite], 1e-4, "∇θ", scale=abs(expected[finite]).max(initial=1e-9))


@pytest.mark.parametrize(
    ("kind", "shape", "suits"),
    [
        (products.FLOAT32_KIND, (128, 512, 784), True),
        (products.FLOAT32_KIND, (16, 512, 784), False),
        (products.FLOAT32_KIND, (128, 512, 10), False),
        (products.FLOAT32_KIND, (128, 10, 512), False),
        (products.FLOAT32_KIND, (32, 32, 32), False),
        (products.BFLOAT16_KIND, (16, 512, 784), True),
        (products.BFLOAT16_KIND, (128, 10, 512), True),
        (products.BFLOAT16_KIND, (5, 512, 784), False),
    ],
    ids=str,
)
def test_only_products_that_fill_units_are_computed_in_them(kind, shape, suits):
    assert kind.suits(*shape) is suits


def test_backend_says_how_products_are_computed(registers):
    backend = CompiledBackend()
    assert backend.products.startswith("in AMX tiles, small ones in registers of ")
    assert registers(lambda: backend.products).startswith("in registers of ")

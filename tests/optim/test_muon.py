"""Muon: its choice of parameters, and its steps against PyTorch and AdamW."""

from dataclasses import replace

import numpy as np
import pytest

from ffnn_gpu import AdamW, Muon, fit, softmax_cross_entropy, tanh
from ffnn_gpu.distributed.communicator import Single
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layers import (
    Average,
    Dense,
    Embedding,
    LayerNorm,
    LogSoftmax,
    Residual,
    Scale,
    Softmax,
    Stack,
)
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.parameters import Parameters
from ffnn_gpu.nn.rates import Group, Rate
from ffnn_gpu.testing import assert_close, tolerance
from ffnn_gpu.training.data_parallel.optimizer_shard import Shard
from tests.optim.test_optimizers import read

RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(40, 4)), RNG.integers(0, 3, 40)
LAYERS = [Dense(16, tanh), LayerNorm(), Residual([Dense(16, tanh)]), Dense(16, tanh), Dense(3)]


def names():
    return [
        "Muon(lr=0.05, weight_decay=0.3)",
        "Muon(lr=0.02, momentum=0.8, nesterov=False, weight_decay=0.0)",
    ]


def test_every_golden_trajectory_is_tested(golden):
    assert list(golden("muon")["of"]) == names()


@pytest.mark.parametrize("name", names())
def test_ten_steps_equal_pytorch(backend, dtype, golden, name):
    narrow = backend.name.startswith("cupy") and dtype == "float32"
    stored = golden("muon")
    shapes = [{"W": np.shape(W)} for W in stored["W"]]
    params = Parameters(backend, shapes, [{}] * 3, dtype, [{"W": Rate(matrix=True)}] * 3)
    params.assign({f"{k}.W": np.array(W, dtype) for k, W in enumerate(stored["W"])})
    rule = replace(read(name), output_layer=True)
    for t, (gradients, want) in enumerate(zip(stored["gradients"], stored["of"][name], strict=True)):
        for views, g in zip(params.views, gradients, strict=True):
            backend.copy(backend.asarray(np.array(g, dtype)), out=views.dW)
        rule.step(params)
        for k, W in enumerate(want):
            # products in bfloat16 change a step, lr √1.5 in each direction, by up to 20 · 2⁻⁸
            relative = (t + 1) * (0.06 * 20 * 2**-8 if narrow else tolerance("network", dtype))
            assert_close(params.to_host()[f"{k}.W"], np.array(W), relative, f"{k}.W after {t + 1} steps")


def test_matrices_of_dense_layers_but_the_last_are_muons_and_equal_shapes_are_one_stack():
    params = Network(4, LAYERS, "numpy").params
    at = {name: (start, stop) for name, start, stop in params.extents}
    stacks, rest = Muon(lr=0.5, adam_lr=0.125).parts(params)
    first, both = Group(0, 64, 64), Group(64, 576, 512)
    assert at["0.W"] == (0, 64) and at["2.layers.0.W"] == (64, 320) and at["3.W"] == (320, 576)
    assert stacks == [(first, (1, 4, 16)), (both, (2, 16, 16))]
    assert rest == [Group(576, len(params.theta), 64, lr=0.25)]  # the last W, and all vectors
    everything, _ = Muon(output_layer=True).parts(params)
    assert [shape for _, shape in everything] == [(1, 4, 16), (2, 16, 16), (1, 16, 3)]


MEMBERS = [Dense(8), Dense(3)], [Dense(8), Residual([Dense(8)]), Dense(3), LogSoftmax()], [Dense(3)]


@pytest.mark.parametrize(
    ("layers", "last"),
    [
        ([Average(MEMBERS)], {"0.layers.0.layers.1.W", "0.layers.1.layers.2.W", "0.layers.2.layers.0.W"}),
        (
            [Dense(4), Average(MEMBERS), Softmax()],
            {"1.layers.0.layers.1.W", "1.layers.1.layers.2.W", "1.layers.2.layers.0.W"},
        ),
        ([Average(MEMBERS), Dense(3)], {"1.W"}),
        ([Dense(4), Residual([Dense(4), Dense(4)]), LayerNorm()], {"1.layers.1.W"}),
        ([Stack([Dense(4), Dense(4)]), Scale()], {"0.layers.1.W"}),
    ],
)
def test_last_matrix_on_the_way_to_the_outputs_is_adamws_in_every_member(layers, last):
    params = Network(4, layers, "numpy").params
    sizes = {slot.name: slot.size for slot in params.slots if params.rates[slot.name].matrix}
    assert {name for name, rate in params.rates.items() if rate.output} == last
    stacks, _ = Muon().parts(params)
    assert sum(n * I * O for _, (n, I, O) in stacks) == sum(sizes.values()) - sum(map(sizes.get, last))
    everything, _ = Muon(output_layer=True).parts(params)
    assert sum(n * I * O for _, (n, I, O) in everything) == sum(sizes.values())


def test_learning_rate_of_adamw_is_a_twentieth_or_its_own():
    params = Network(4, LAYERS, "numpy").params
    rates = {
        rule: rule.parts(params)[1][0].lr for rule in (Muon(), Muon(0.5), Muon(0.5, adam_lr=0.25), Muon(0.0))
    }
    assert [*rates.values()] == [0.05, 0.05, 0.5, 0.05]


def test_factors_of_layers_hold_for_the_matrices_too():
    layers = [Dense(8, lr_factor=0.5), Dense(8, decay_factor=0.0), Dense(8, decay_factor=2.0), Dense(2)]
    stacks, _ = Muon().parts(Network(8, layers, "numpy").params)
    factors = sorted((group.lr, group.n_decayed, group.decay) for group, _ in stacks)
    assert factors == [(0.5, 64, 1.0), (1.0, 0, 1.0), (1.0, 64, 2.0)]


def gradient_step(backend, dtype, rule, layers, x):
    """Return all parameters before and after a step with a random gradient, and the gradient."""
    network = Network(x.shape[1], layers, backend, dtype, seed=3)
    params, before = network.params, network.params.to_host()
    g = np.random.default_rng(5).normal(size=params.grad.shape).astype(params.dtype)
    backend.copy(backend.asarray(g), out=params.grad)
    gradients = {slot.name: g[slot.start : slot.start + slot.size] for slot in params.slots}
    rule.step(params)
    return before, params.to_host(), gradients


def test_all_other_parameters_move_as_under_adamw_with_its_own_learning_rate(backend, dtype):
    layers = [Embedding([5], 3), *LAYERS]
    rule, adamw = Muon(0.25, adam_lr=0.0625, weight_decay=0.5), AdamW(0.0625, weight_decay=0.5)
    before, found, _ = gradient_step(backend, dtype, rule, layers, X)
    _, wanted, _ = gradient_step(backend, dtype, adamw, layers, X)
    different = {name for name in found if (found[name] != wanted[name]).any()}
    assert different == {"1.W", "3.layers.0.W", "4.W"}
    assert all((before[name] != found[name]).any() for name in found)


def test_padding_stays_zero(backend, dtype):
    network = Network(3, [Dense(5), Dense(5), Dense(2)], backend, dtype)
    rule, params = Muon(), network.params
    for slot in params.slots:
        slot.view(params.grad)[...] = 1
    rule.step(params)
    outside = np.ones(params.theta.shape, bool)
    for slot in params.slots:
        outside[slot.start : slot.start + slot.size] = False
    for vector in (params.theta, rule.state(params).m, rule.state(params).v):
        assert not backend.to_host(vector)[outside].any() and backend.to_host(vector).any()


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_training_with_muon_lowers_the_loss_in_every_type(backend, dtype):
    network = Network(4, LAYERS, backend, dtype, seed=1)
    data = X, LABELS
    rule = Muon(0.05, adam_lr=0.01, decay_schedule="flat_cos", ema=0.5, clip_norm=1.0)
    history = fit(network, softmax_cross_entropy, rule, data, epochs=15, batch_size=10, verbose=0)
    assert history["loss"][-1] < 0.4 * history["loss"][0]


def test_sharded_optimizer_refuses_muon():
    params = Network(4, LAYERS, "numpy").params
    with pytest.raises(
        ConfigurationError, match="Muon updates whole matrices, and shard_optimizer=True splits"
    ):
        Shard(params, Single(), Muon())


BAD = {
    "lr must be positive with adam_lr, not 0": lambda: Muon(lr=0, adam_lr=0.1),
    "adam_lr must be finite and at least 0, or None, not -1": lambda: Muon(adam_lr=-1),
    "momentum must be at least 0 and below 1, not 1": lambda: Muon(momentum=1),
}


@pytest.mark.parametrize("message", BAD)
def test_wrong_settings_raise(message):
    with pytest.raises(ConfigurationError, match=message):
        BAD[message]()

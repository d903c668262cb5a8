"""Member r of a pack equals the plain network with its seed: passes, training, files, selection."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    Lion,
    Muon,
    Nadam,
    Network,
    Residual,
    RMSprop,
    export_state_dict,
    initialize_from,
    load,
    mean_squared_error,
    save,
    softmax_cross_entropy,
    train_step,
)
from ffnn_gpu.errors import ConfigurationError, DivergedError, ShapeError
from ffnn_gpu.nn.layers import (
    Average,
    CosineEmbedding,
    Layer,
    LogSoftmax,
    NTKDense,
    ParametricActivation,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    Scale,
    Softmax,
    Stack,
)
from ffnn_gpu.nn.losses import Loss, get_loss
from ffnn_gpu.nn.pack import Member
from ffnn_gpu.optim import Optimizer
from ffnn_gpu.testing import assert_parity, check_gradients
from ffnn_gpu.testing.rounding import scatter

SEED, B, R = 4, 11, 3
RNG = np.random.default_rng(0)
X = np.column_stack([RNG.normal(size=(B, 3)), RNG.integers(0, 4, B)])
CLASSES = RNG.integers(0, 3, B)
STACKS = {
    "tables": [
        Embedding([4], 2), PeriodicEmbedding(2, 3, 3), Scale(), NTKDense(6), ParametricActivation("mish"),
        LayerNorm(), Residual([Dense(6, "tanh"), Dropout(0.3)]), BatchNorm(), Dense(3, "gelu"),
    ],
    "others": [
        CosineEmbedding(2, 3), Stack([PiecewiseLinearEmbedding([[-1, 0, 1]], 3), Dense(5, "elu")]),
        Dropout(0.2, "flat_cos"), Average([Dense(3), [Dense(4, "tanh"), LogSoftmax(), Dense(3)]]), Softmax(),
    ],
}  # fmt: skip
OPTIMIZERS = {
    "sgd": SGD(0.1, momentum=0.9, nesterov=True), "adam": Adam(0.02, clip_norm=0.1, ema=0.9),
    "adamw": AdamW(0.02, weight_decay=0.5, l2=0.1, clip_value=0.05), "nadam": Nadam(clip_norm=0.1),
    "rmsprop": RMSprop(), "adagrad": Adagrad(l1=0.01), "lion": Lion(), "muon": Muon(clip_norm=1.0),
}  # fmt: skip
DENSE = [Dense(8, "relu"), Dense(5, "tanh"), Dense(3)]
FACTORS = [Member(9), Member(2, lr_factor=0.5, decay_factor=2.0), Member(7, 3.0, 0.0)]


def plain(pack, r):
    """Return the network that member r must equal."""
    dtype = pack.compute_dtype.name
    return Network(pack.n_in, pack.layers, pack.backend, dtype, pack.members[r].seed)


def close(got, want, what):
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13, err_msg=what)


def require_equal_numbers(pack, networks, exact=False):
    """Compare every parameter and running statistic of the members with those of plain networks."""
    found = pack.params.to_host()
    for r, network in enumerate(networks):
        for name, want in network.params.to_host().items():
            assert found[name].shape == (len(networks), *want.shape)
            if exact:
                assert (found[name][r] == want).all(), f"{name} of member {r}"
            close(found[name][r], want, f"{name} of member {r}")


def one_pass(network, loss, x, y, weight=None):
    """Return z, the loss, every gradient and dx on the host, as copies."""
    host, ws = network.backend.to_host, network.workspace(x.shape[-2], input_gradient=True)
    z = network.forward(network.backend.asarray(x, network.dtype), ws)
    value = np.array(host(loss(network.backend, z, y, ws.dz, weight)))
    z, dx = np.array(host(z)), np.array(host(network.backward(ws.dz, ws)))
    params = network.params
    return z, value, {slot.name: np.array(host(slot.view(params.grad))) for slot in params.slots}, dx


def steps(network, optimizer, count, x=X, y=CLASSES, loss=softmax_cross_entropy):
    """Return the last loss of `count` steps."""
    ws, x = network.workspace(x.shape[-2]), network.backend.asarray(x, network.compute_dtype)
    for _ in range(count):
        value = train_step(network, loss, optimizer, x, network.backend.asarray(y), ws)
    return np.array(network.backend.to_host(value))


# ---------------------------------------------------------------------- one pass


@pytest.mark.parametrize("own_rows", [False, True], ids=["shared rows", "own rows"])
@pytest.mark.parametrize("stack", STACKS)
def test_pass_of_a_member_equals_that_of_the_plain_network(backend, stack, own_rows):
    pack = Network(4, STACKS[stack], backend, "float64", SEED, members=R)
    x = np.stack([X, X[::-1], X[RNG.permutation(B)]]) if own_rows else X
    y = np.stack([CLASSES, CLASSES[::-1], (CLASSES + 1) % 3]) if own_rows else CLASSES
    w = RNG.uniform(size=(R, B) if own_rows else B)
    z, value, gradients, dx = one_pass(pack, softmax_cross_entropy, x, y, w)
    assert z.shape == (R, B, 3) and value.shape == (R,) and dx.shape == (R, B, 4)
    for r in range(R):
        own = (x[r], y[r], w[r]) if own_rows else (x, y, w)
        want = one_pass(plain(pack, r), softmax_cross_entropy, *own)
        close(z[r], want[0], "z")
        close(value[r], want[1], "loss")
        for name, gradient in want[2].items():
            close(gradients[name][r], gradient, name)
        close(dx[r], want[3], "dx")


@pytest.mark.parametrize("name", ["mean_squared_error", "huber", "cross_entropy", "hinge", "poisson"])
def test_losses_of_the_members_equal_the_plain_ones(backend, name):
    loss, z = get_loss(name), RNG.uniform(0.1, 1, size=(R, B, 2))
    shared = {"hinge": RNG.choice([-1, 1], (B, 2)), "cross_entropy": RNG.dirichlet([1, 1], B)}
    y = shared.get(name, RNG.integers(0, 5, (B, 2)))
    for of_member in (y, np.stack([y, y[::-1], y])):
        there, dz = backend.asarray(z), backend.empty(z.shape, np.float64)
        values = backend.to_host(loss(backend, there, of_member, dz))
        for r in range(R):
            own, own_dz = (
                of_member[r] if of_member.ndim == 3 else of_member,
                backend.empty((B, 2), np.float64),
            )
            want = loss(backend, backend.asarray(z[r]), own, own_dz)
            close(values[r], float(want), name)
            close(backend.to_host(dz)[r], backend.to_host(own_dz), f"dz of {name}")


def test_gradients_of_a_pack_are_the_slopes_of_its_losses_and_backends_agree(backend):
    layers = [Dense(3, "tanh"), LayerNorm(), Dropout(0.3), Dense(2)]
    pack = Network(2, layers, backend, "float64", members=FACTORS[:2])
    x, y = RNG.normal(size=(3, 2)), RNG.normal(size=(3, 2))
    assert check_gradients(pack, mean_squared_error, x, y).method == "complex step"
    assert_parity(pack, x, y, mean_squared_error, optimizer=AdamW(clip_norm=0.1))  # on a strict device too


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_gradients_of_rows_of_each_member_are_checked(dtype):
    pack = Network(2, [LayerNorm(), Dense(2)], "numpy", dtype, members=2)
    x, y = RNG.normal(size=(2, 3, 2)), RNG.normal(size=(2, 3, 2))
    check_gradients(pack, mean_squared_error, x, y)
    assert_parity(pack, x, y, mean_squared_error)
    rooms = [scatter(each, mean_squared_error, x, y, None) for each in (pack, pack.to("numpy"))]
    assert rooms[0] == rooms[1] and all(rooms[0].values())  # every tensor is rounded
    for network, wrong in ((pack, x[None]), (pack, x[0, 0]), (pack.member(0), x)):
        with pytest.raises(ShapeError, match="it must be a matrix"):
            check_gradients(network, mean_squared_error, wrong, y)


@pytest.mark.parametrize("rows", [3, 200])
def test_predictions_have_an_axis_of_members(backend, rows):
    pack = Network(4, DENSE, backend, "float64", members=R)
    x = np.resize(X, (rows, 4))
    found = pack.predict(x, batch_size=64 if rows > 64 else None)
    assert found.shape == (R, rows, 3)
    for r in range(R):
        close(found[r], plain(pack, r).predict(x), f"member {r}")


# ---------------------------------------------------------------------- training


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_with_own_rates_equals_plain_runs(backend, name):
    optimizer = OPTIMIZERS[name]
    pack = Network(4, [*DENSE[:1], BatchNorm(), *DENSE[1:]], backend, "float64", members=FACTORS)
    networks = [plain(pack, r) for r in range(R)]
    value = steps(pack, optimizer, 20)
    for r, (network, member) in enumerate(zip(networks, FACTORS, strict=True)):
        penalties = ("l2", "l1", "weight_decay")
        factors = {name: getattr(optimizer, name) * member.decay_factor for name in penalties}
        own = dataclasses.replace(optimizer, lr=optimizer.lr * member.lr_factor, **factors)
        close(value[r], steps(network, own, 20), f"loss of member {r}")
        if optimizer.ema:
            own.swap_average(network.params)
    if optimizer.ema:
        optimizer.swap_average(pack.params)
    require_equal_numbers(pack, networks)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pack_of_one_equals_no_pack_bit_for_bit(backend, dtype):
    layers = [Dense(16, "relu"), BatchNorm(), Dropout(0.2), Dense(3)]
    pack, network = (Network(4, layers, backend, dtype, SEED, members=R) for R in (1, None))
    for _ in range(2):
        values = [steps(each, optimizer, 5) for each, optimizer in ((pack, CLIPPED), (network, CLIPPED))]
        assert values[0].tolist() == [float(values[1])]
    require_equal_numbers(pack, [network], exact=True)


CLIPPED = AdamW(0.01, clip_norm=0.2)


def test_members_are_initialized_from_rows_with_seeds_of_their_own(backend):
    pack = Network(4, DENSE, backend, "float64", members=R)
    networks = [plain(pack, r) for r in range(R)]
    initialize_from(pack, X, seed=3)
    for r, network in enumerate(networks):
        initialize_from(network, X, seed=3 + r)
    require_equal_numbers(pack, networks, exact=True)


def test_own_optimizer_updates_every_member(backend):
    class Plain(Optimizer):
        def formula(self, xp, theta, g, lr, t):
            theta -= lr * g

    pack = Network(4, DENSE, backend, "float64", members=R)
    networks = [plain(pack, r) for r in range(R)]
    for network in (pack, *networks):
        steps(network, Plain(0.1), 3)
    require_equal_numbers(pack, networks)


def test_masks_of_a_member_have_its_seed_and_rate(backend):
    members, rates = [Member(5), Member(9, dropout_factor=1.5), Member(1, dropout_factor=0)], (0.5, 0.75, 0)
    layers = [Residual([Dropout(0.5)]), Dense(3)]
    pack = Network(4, layers, backend, "float64", members=members)
    for seed, wanted in ((None, (5, 9, 1)), (2**64 - 1, (2**64 - 1, 0, 1))):
        ws = pack.workspace(B, seed=seed)
        z = np.array(backend.to_host(pack.forward(backend.asarray(X), ws)))
        for r, own in enumerate(wanted):
            network = pack.member(r)
            assert network.layers == (Residual([Dropout(rates[r])]), Dense(3))
            ws = network.workspace(B, seed=own)
            close(z[r], backend.to_host(network.forward(backend.asarray(X), ws)), f"member {r}")
    assert np.ptp(z[2] - z[0]) > 0.1


# ---------------------------------------------------------------------- copies and files


def test_pack_is_saved_copied_and_pickled_with_its_members(backend, tmp_path):
    pack = Network(4, [*DENSE, BatchNorm()], backend, "float32", members=FACTORS)
    steps(pack, Adam(), 2)
    save(pack, tmp_path / "pack")
    copies = [load(tmp_path / "pack", backend), copy.deepcopy(pack), pack.to("numpy")]
    copies += [pickle.loads(pickle.dumps(pack))]  # noqa: S301
    for other in copies:
        assert other.members == tuple(FACTORS) and other == pack and repr(FACTORS[1]) in repr(other)
        assert other.params.step[0] == 2
        require_equal_numbers(other, [pack.member(r) for r in range(R)], exact=True)
    assert repr(Network(4, DENSE, backend, seed=3, members=2)).endswith("seed=3, members=2)")
    assert pack != Network(4, pack.layers, backend, "float32")


def test_selected_members_continue_their_training(backend):
    whole = Network(4, [*DENSE, BatchNorm()], backend, "float64", members=FACTORS)
    adam = Adam(0.01, ema=0.9, clip_norm=0.1)
    steps(whole, adam, 3)
    rest = whole.select([2, 0])
    steps(whole, adam, 3)
    steps(rest, adam, 3)
    assert rest.members == (FACTORS[2], FACTORS[0])
    require_equal_numbers(rest, [whole.member(2), whole.member(0)])
    adam.swap_average(whole.params)
    adam.swap_average(rest.params)
    require_equal_numbers(rest, [whole.member(2), whole.member(0)])


# ---------------------------------------------------------------------- errors


class Own(Layer):
    """A layer of a user."""


class OwnLoss(Loss):
    """A loss of a user."""

    def value_and_gradient(self, backend, z, y, dz, sample_weight):
        return (z - y).sum()

    def targets(self, y, O, dtype):
        return y


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"members": 0}, "members must be a whole number of at least 1, not 0"),
        ({"members": 2.5}, "members must be a whole number of at least 1, not 2.5"),
        ({"members": []}, "not an empty list"),
        ({"members": [3]}, r"a list of Member\(seed=…\), not 3 in the list"),
        (
            {"members": [Member(1, dropout_factor=3.0)], "layers": [Residual([Dropout(0.5)]), Dense(3)]},
            "dropout_factor=3 of member 0 makes the rate 0.5 of .* at least 1; use less than 2",
        ),
        ({"members": 2, "dtype": "float16"}, "dtype='float16' has one loss scale"),
        ({"members": 2, "layers": [Dense(3), Residual([Own()])]}, "Own is no layer of this package"),
    ],
)
def test_wrong_packs_are_refused(settings, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        Network(4, **{"layers": DENSE, "device": "numpy"} | settings)


def test_wrong_members_arrays_and_uses_are_refused(tmp_path):
    pack = Network(4, DENSE, "numpy", members=2)
    x, ws = X.astype("float32"), pack.workspace(B)
    with pytest.raises(ConfigurationError, match="lr_factor of Member must be finite and at least 0, not -1"):
        Member(3, lr_factor=-1)
    with pytest.raises(ShapeError, match=r"x has shape \(3, 11, 4\); this pack has 2 members"):
        pack.forward(np.stack([x] * 3), ws)
    z = pack.forward(x, ws)
    with pytest.raises(ShapeError, match=r"dz has shape \(11, 3\); this pass has outputs \(2, 11, 3\)"):
        pack.backward(ws.dz[0], ws)
    with pytest.raises(ShapeError, match=r"y has shape \(3, 11, 1\); z has 2 members and 11 rows"):
        softmax_cross_entropy(pack.backend, z, np.stack([CLASSES] * 3)[:, :, None])
    with pytest.raises(ConfigurationError, match="OwnLoss, which is no loss of this package"):
        OwnLoss()(pack.backend, z, z[0])
    with pytest.raises(ConfigurationError, match="there is no member 2; there are 0 to 1"):
        pack.member(2)
    with pytest.raises(ConfigurationError, match="no member is chosen"):
        pack.select([])
    with pytest.raises(ConfigurationError, match=r"select takes a list of members such as \[0, 2\], not 1"):
        pack.select(1)
    with pytest.raises(ConfigurationError, match="not None in the list"):
        Network(4, DENSE, members=[Member(1), None])
    with pytest.raises(ConfigurationError, match="this network is no pack"):
        pack.member(0).member(0)
    with pytest.raises(ConfigurationError, match="a pack of 2 networks cannot be exported"):
        export_state_dict(pack, tmp_path / "pack")


def test_type_that_cannot_compute_a_saved_network_is_refused_by_its_reason(tmp_path):
    save(Network(4, DENSE, "numpy", members=2), tmp_path / "pack")
    save(Network(1, [Embedding((400,), 1)], "numpy"), tmp_path / "codes")
    for name, dtype, reason in (
        ("pack", "float16", "one loss scale"),
        ("codes", "bfloat16", "400 categories"),
    ):
        with pytest.raises(ConfigurationError, match=rf"cannot be loaded with dtype='{dtype}': .*{reason}"):
            load(tmp_path / name, "numpy", dtype=dtype)


def test_output_that_is_not_finite_is_an_error_of_the_pack(backend):
    pack = Network(4, DENSE, backend, members=2)
    pack.params.views[0].W.stacked[1, 0, 0] = np.nan
    with pytest.raises(DivergedError):
        pack.predict(X)

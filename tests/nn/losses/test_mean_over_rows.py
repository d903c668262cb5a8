"""A mean over rows counts a row of weight w as w rows of an epoch, for every batch size."""

import numpy as np
import pytest

from ffnn_gpu import Dense, Network, evaluate, fit, train_step
from ffnn_gpu.backends import Backend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.losses import (
    Loss,
    MeanOverRows,
    PointwiseLoss,
    SoftmaxCrossEntropy,
    get_loss,
    mean_squared_error,
)
from ffnn_gpu.optim import SGD
from ffnn_gpu.testing import assert_close, check_gradients, tolerance
from ffnn_gpu.testing.strict_device import StrictBackend
from tests.distributed.threads import on_ranks

rng = np.random.default_rng(5)
X, CLASSES, NUMBERS = rng.normal(size=(24, 4)), rng.integers(0, 3, 24), rng.normal(size=(24, 3))
WEIGHT = rng.uniform(0, 3, 24)
CASES = {
    "softmax": ("softmax_cross_entropy", CLASSES, WEIGHT),
    "classes": (SoftmaxCrossEntropy(0.1, (0.5, 2, 4)), CLASSES, WEIGHT),
    "classes alone": (SoftmaxCrossEntropy(0.0, (0.5, 2, 4)), CLASSES, None),
    "squared": ("mse", NUMBERS, WEIGHT),
    "labels": ("binary_cross_entropy_with_logits", NUMBERS > 0, WEIGHT),
    "unweighted": ("hinge", np.sign(NUMBERS), None),
}


def network(backend="numpy", seed=3):
    return Network(4, [Dense(3)], backend, "float64", seed)


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_the_sums_over_rows_divided_by_their_number(backend, dtype, case):
    loss, y, w = CASES[case]
    z = backend.asarray(np.asarray(NUMBERS[::-1], dtype))
    dz, want_dz, want = backend.xp.full_like(z, np.nan), np.zeros((24, 3)), 0.0
    value = MeanOverRows(loss)(backend, z, y, dz, w)
    for b in range(24):  # each row alone: its loss, times its weight
        row, of_row = slice(b, b + 1), backend.zeros((1, 3), dtype)
        factor = 1.0 if w is None else w[b]
        factor *= loss.class_weight[y[b]] if isinstance(loss, SoftmaxCrossEntropy) else 1.0
        want += factor * float(get_loss(loss)(backend, z[row], y[row], of_row)) / 24
        want_dz[row] = factor * backend.to_host(of_row) / 24
    assert value.shape == () and value.dtype == dtype
    assert float(value) == pytest.approx(want, rel=tolerance("network", dtype, K=72))
    assert_close(backend.to_host(dz), want_dz, tolerance("network", dtype, K=72), "dz")


@pytest.mark.parametrize("batch_size", [1, 5, 24])
def test_weights_count_in_batches_of_every_size(backend, batch_size):
    made, plain = network(backend), network()
    W, b = (plain.params.to_host()[name].copy() for name in ("0.W", "0.b"))
    loss = MeanOverRows("mse")
    data = X, NUMBERS, WEIGHT
    fit(made, loss, SGD(0.1), data, epochs=2, batch_size=batch_size, shuffle=False, verbose=0)
    for _ in range(2):
        for start in range(0, 24, batch_size):
            x, y, w = (each[start : start + batch_size] for each in data)
            delta = 2 * w[:, None] * (x @ W + b - y) / (3 * len(x))
            W, b = W - 0.1 * x.T @ delta, b - 0.1 * delta.sum(axis=0)
    np.testing.assert_allclose(made.params.to_host()["0.W"], W, rtol=1e-11)
    np.testing.assert_allclose(made.params.to_host()["0.b"], b, rtol=1e-11)


def trained(loss, w=WEIGHT, communicator=None, device="numpy", **more):
    made = network(device)
    history = fit(
        made, loss, SGD(0.1), (X, CLASSES, w), epochs=2, verbose=0,
        communicator=communicator, class_weight={1: 3.0}, **{"batch_size": 9} | more,
    )  # fmt: skip
    return made.backend.to_host(made.params.theta), history["loss"]


def assert_same_training(found, wanted):
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-11)


def test_micro_batches_and_ranks_have_the_numbers_of_one_batch():
    loss = MeanOverRows(SoftmaxCrossEntropy(0.1, (1, 2, 0)))
    wanted = trained(loss)
    assert_same_training(trained(loss, accumulate=4), wanted)
    for found in on_ranks(3, lambda ranks: trained(loss, communicator=ranks))[0]:
        assert_same_training(found, wanted)


def test_strict_device_which_refuses_waits_and_copies_has_the_same_numbers():
    loss = MeanOverRows("softmax_cross_entropy")
    for w in (WEIGHT, None):
        assert_same_training(trained(loss, w, device=StrictBackend()), trained(loss, w))


def test_rank_without_rows_adds_nothing():
    loss = MeanOverRows(SoftmaxCrossEntropy(0.1, (1, 2, 0)))
    wanted = trained(loss, batch_size=2)
    for found in on_ranks(3, lambda ranks: trained(loss, communicator=ranks, batch_size=2))[0]:
        assert_same_training(found, wanted)


@pytest.mark.parametrize("case", CASES)
def test_loss_of_no_rows_is_zero(backend, case):
    loss, y, w = CASES[case]
    none = backend.zeros((0, 3), np.float64)
    value = MeanOverRows(loss)(
        backend, none, y[:0], backend.zeros((0, 3), np.float64), w if w is None else w[:0]
    )
    assert float(value) == 0


class Own(Loss):
    """A loss that computes in Python, which a recording must call."""

    def targets(self, y, O, dtype):
        return np.asarray(y, dtype)

    def value_and_gradient(self, backend, z, y, dz, sample_weight):
        dz[...] = 2 * (z - y) / len(y)
        return ((z - y) ** 2).sum() / len(y)


@pytest.mark.parametrize("w", [None, WEIGHT], ids=["plain", "weighted"])
def test_recorded_steps_call_a_loss_of_your_own(w):
    mean, alone = network(), network()
    ws, of_alone, loss, rule = mean.workspace(24), alone.workspace(24), MeanOverRows(Own()), SGD(0.1)
    for step in range(3):
        found = train_step(mean, loss, rule, X, NUMBERS, ws, w)
        want = train_step(alone, Own(), rule, X, NUMBERS, of_alone)
        if w is None or not step:
            assert float(found) == pytest.approx(float(want) * (1 if w is None else w.mean()), rel=1e-12)
    if w is None:
        np.testing.assert_array_equal(mean.params.theta, alone.params.theta)


def test_losses_of_one_name_and_two_formulas_are_not_confused():
    made = network()
    ws, seen = made.workspace(24), []
    for factor in (1.0, 3.0):
        of = PointwiseLoss(
            "own", lambda xp, z, y, _, f=factor: f * z, lambda xp, z, y, _, f=factor: f + 0 * z
        )
        rule = SGD(0.0)
        for _ in range(2):
            seen.append(float(train_step(made, MeanOverRows(of), rule, X, NUMBERS, ws, WEIGHT)))
    assert seen == pytest.approx([seen[0], seen[0], 3 * seen[0], 3 * seen[0]], rel=1e-12)


def test_without_weights_it_is_the_loss_itself():
    for loss in ("softmax_cross_entropy", SoftmaxCrossEntropy(0.1)):
        alone, mean = (np.empty((24, 3)) for _ in range(2))
        made = network()
        values = [each(made.backend, NUMBERS, CLASSES, dz) for each, dz in
                  ((get_loss(loss), alone), (MeanOverRows(loss), mean))]  # fmt: skip
        assert values[0] == values[1]
        np.testing.assert_array_equal(alone, mean)


def test_evaluation_divides_by_the_rows_for_any_batch_size():
    data = X, CLASSES, WEIGHT
    of_weights = evaluate(network(), "softmax_cross_entropy", data, metrics="accuracy")
    for batch_size in (1, 7, 24):
        found = evaluate(
            network(), MeanOverRows("softmax_cross_entropy"), data, metrics="accuracy", batch_size=batch_size
        )
        assert found["loss"] == pytest.approx(of_weights["loss"] * WEIGHT.mean(), rel=1e-12)
        assert found["accuracy"] == of_weights["accuracy"]


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "binary_cross_entropy_with_logits", "mse"])
def test_metrics_of_probabilities_read_those_of_the_loss_itself(name):
    made = network()
    np.testing.assert_array_equal(
        MeanOverRows(name).probabilities(NUMBERS), get_loss(name).probabilities(NUMBERS)
    )
    if name != "mse":
        data = X, CLASSES if name.startswith("softmax") else NUMBERS > 0, WEIGHT
        metrics = "log_loss", "roc_auc"
        found = [evaluate(made, each, data, metrics=metrics) for each in (name, MeanOverRows(name))]
        assert [found[1][each] for each in metrics] == [found[0][each] for each in metrics]


PACKS = {
    "shared": (CLASSES, WEIGHT),
    "own weights": (CLASSES, rng.uniform(0, 3, (3, 24))),
    "own targets": (rng.integers(0, 3, (3, 24)), WEIGHT),
    "unweighted": (rng.integers(0, 3, (3, 24)), None),
}


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("case", PACKS)
def test_members_of_a_pack_have_the_numbers_of_plain_networks(backend, case, members):
    y, w = (own if own is None or own.ndim == 1 else own[:members] for own in PACKS[case])
    loss, rule = MeanOverRows(SoftmaxCrossEntropy(0.1, (0.5, 2, 0))), SGD(0.1)
    pack = Network(4, [Dense(3)], backend, "float64", 3, members)
    ws, x = pack.workspace(24), backend.asarray(X)
    for _ in range(3):  # the second step is recorded
        found = backend.to_host(train_step(pack, loss, rule, x, y, ws, w))
    for r in range(members):
        own_y, own_w = (own if own is None or own.ndim == 1 else own[r] for own in (y, w))
        plain = network(backend, 3 + r)
        own = plain.workspace(24)
        for _ in range(3):
            wanted = train_step(plain, loss, rule, x, own_y, own, own_w)
        assert found[r] == float(wanted)
        np.testing.assert_array_equal(pack.member(r).params.to_host()["0.W"], plain.params.to_host()["0.W"])


def test_packs_refuse_a_loss_of_your_own_within_it():
    with pytest.raises(ConfigurationError, match="a pack cannot compute Own"):
        MeanOverRows(Own())(Backend(), np.zeros((2, 24, 3)), NUMBERS)


def test_gradients_are_exact_and_the_loss_is_saved_by_its_settings():
    loss = MeanOverRows("mse")
    check_gradients(network(), loss, X, NUMBERS)
    assert loss == MeanOverRows(mean_squared_error)
    assert repr(loss).startswith("MeanOverRows(loss=PointwiseLoss(name='mean_squared_error'")

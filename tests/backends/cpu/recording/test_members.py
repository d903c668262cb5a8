"""The recorded step of a pack: the members' commands run side by side, on any number of threads."""

import numpy as np
import pytest

from ffnn_gpu import (
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    Muon,
    Network,
    fit,
    mean_squared_error,
    softmax_cross_entropy,
    train_step,
)
from ffnn_gpu.backends.choice import CompiledBackend
from ffnn_gpu.errors import DataError
from ffnn_gpu.nn.activations import Activation
from ffnn_gpu.nn.layers import Scale

pytest.importorskip("llvmlite")
command_table = pytest.importorskip("ffnn_gpu.backends.cpu.recording.command_table")

B, R = 40, 5
RNG = np.random.default_rng(0)
X, CLASSES = RNG.normal(size=(B, 12)).astype("float32"), RNG.integers(0, 4, B)
LAYERS = [Dense(24, "relu"), BatchNorm(), Dropout(0.2), Dense(17, "gelu"), Dense(4)]
ADAMW = AdamW(0.01, clip_norm=0.3)


def trained(network, x, y, count=3, optimizer=ADAMW):
    """Return (losses of each step, θ, running statistics, the workspace) after some steps."""
    ws = network.workspace(x.shape[-2])
    losses = [train_step(network, softmax_cross_entropy, optimizer, x, y, ws) for _ in range(count)]
    return np.array(losses), network.params.theta, network.params.state, ws


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_numbers_do_not_depend_on_threads_and_equal_plain_networks(dtype):
    found = []
    for threads in (1, 2, 3):
        pack = Network(12, LAYERS, CompiledBackend(threads), dtype, members=R)
        *numbers, ws = trained(pack, X, CLASSES)
        assert [recording.reason for recording in ws.recordings] == [""]
        found.append(b"".join(each.tobytes() for each in numbers))
    assert found[0] == found[1] == found[2]
    for r in range(R):
        network = Network(12, LAYERS, CompiledBackend(1), dtype, r)
        losses, theta, state, _ = trained(network, X, CLASSES)
        assert (losses == numbers[0][:, r]).all()
        assert (theta == numbers[1].reshape(R, -1)[r]).all()
        assert (state == numbers[2].reshape(R, -1)[r]).all()


@pytest.mark.parametrize("layer", [BatchNorm(), LayerNorm(), Scale()], ids=lambda layer: type(layer).__name__)
def test_sums_over_many_rows_equal_those_of_plain_networks(layer):
    """Sums over a column are made of blocks of 256 rows: chunks of a command for any number of threads."""
    x, y = np.resize(X, (600, 12)) + RNG.normal(size=(600, 1)).astype("float32"), np.resize(CLASSES, 600)
    layers = [Dense(9, "tanh"), layer, Dense(4)]
    losses, theta, state, ws = trained(Network(12, layers, CompiledBackend(2), members=R), x, y)
    assert [recording.reason for recording in ws.recordings] == [""]
    for r in range(R):
        found = trained(Network(12, layers, CompiledBackend(1), seed=r), x, y)[:3]
        assert (losses[:, r] == found[0]).all()
        assert (theta.reshape(R, -1)[r] == found[1]).all() and (state.reshape(R, -1)[r] == found[2]).all()


def test_members_wait_for_each_other_twice_in_a_step():
    pack = Network(12, LAYERS, CompiledBackend(2), members=R)
    *_, ws = trained(pack, X, CLASSES, 1)
    (recording,) = ws.recordings
    rows = recording.table.rows
    together = rows[:, 0] == command_table.run_members.address
    assert together.tolist() == [True, False, True]  # the pass, the count of updates, the rule
    assert (rows[together, 2] == R).all()  # each has a lane of its own
    many = Network(12, LAYERS, CompiledBackend(2), members=19)
    *_, ws = trained(many, X, CLASSES, 1)
    assert ws.recordings[0].table.rows[0, 2] == 8  # four lanes for each thread


def test_rows_of_each_member_are_read_from_each_call():
    pack = Network(12, LAYERS, CompiledBackend(2), members=R)
    again = Network(12, LAYERS, CompiledBackend(2), members=R)
    ws = pack.workspace(B)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(R, B, 12)).astype("float32"), rng.integers(0, 4, (R, B))
        got = train_step(pack, softmax_cross_entropy, ADAMW, x, y, ws)
        other = again.workspace(B)
        want = train_step.__wrapped__(again, softmax_cross_entropy, ADAMW, x, y, other)
        np.testing.assert_allclose(got, want, rtol=1e-5)
    assert len(ws.recordings) == 1 and ws.recordings[0].reason == ""
    np.testing.assert_allclose(pack.params.theta, again.params.theta, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("wrong", ["class", "code"])
def test_wrong_value_of_one_member_changes_nothing(wrong):
    pack = Network(12, [Embedding([4], 3), BatchNorm(), Dense(4)], CompiledBackend(2), members=R)
    x, y = np.stack([X] * R), np.stack([CLASSES] * R)
    x[:, :, -1] = RNG.integers(0, 4, (R, B))
    ws = pack.workspace(B)
    train_step(pack, softmax_cross_entropy, ADAMW, x, y, ws)
    before = [vector.copy() for vector in (pack.params.theta, pack.params.state)]
    if wrong == "class":
        y[3, 7] = 4
    else:
        x[3, 7, -1] = 4
    with pytest.raises(DataError, match="4"):
        train_step(pack, softmax_cross_entropy, ADAMW, x, y, ws)
    assert (pack.params.theta == before[0]).all() and (pack.params.state == before[1]).all()
    assert pack.params.step[0] == 1


def test_step_with_python_code_within_a_member_runs_unrecorded_and_says_why():
    curve = Activation("by table", lambda xp, s, _: s * np.interp(s, [-9, 9], [1, 1]), lambda xp, a, _: a**0)
    pack = Network(12, [Dense(5, curve), Dense(4)], CompiledBackend(2), members=2)
    *_, ws = trained(pack, X, CLASSES, 1)
    assert ws.recordings[0].reason == "a pack calls no Python code for one member"


def test_muon_of_a_member_equals_that_of_a_plain_network():
    pack = Network(12, LAYERS, CompiledBackend(2), members=R)
    losses, *_, ws = trained(pack, X, CLASSES, 2, Muon(clip_norm=1.0))
    network = Network(12, LAYERS, CompiledBackend(2), seed=3)
    assert ws.recordings[0].reason == ""
    np.testing.assert_allclose(losses[:, 3], trained(network, X, CLASSES, 2, Muon(clip_norm=1.0))[0], 1e-5)


@pytest.mark.parametrize("rows", [1, 40])
def test_recorded_predictions_equal_those_of_the_members(rows):
    pack = Network(12, LAYERS, CompiledBackend(2), members=R)
    for _ in range(2):
        found = pack.predict(X[:rows])
    for r in range(R):
        assert (found[r] == Network(12, LAYERS, CompiledBackend(1), seed=r).predict(X[:rows])).all()


def test_micro_batches_of_a_pack_are_recorded():
    layers = [Dense(9, "tanh"), Dense(2)]
    packs = [Network(12, layers, CompiledBackend(1), members=9) for _ in range(2)]  # in four lanes
    y = RNG.normal(size=(B, 2)).astype("float32")
    for pack, parts in zip(packs, (1, 2), strict=True):
        fit(pack, mean_squared_error, AdamW(), (X, y), epochs=2, batch_size=20, accumulate=parts, verbose=0)
    np.testing.assert_allclose(packs[0].params.theta, packs[1].params.theta, rtol=1e-3, atol=1e-5)

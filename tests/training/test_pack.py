"""fit of a pack: its members equal plain runs, its history is their mean, and a run resumes exactly."""

import dataclasses

import numpy as np
import pytest

from ffnn_gpu import Adam, AdamW, BatchNorm, Dense, Dropout, Member, Network, evaluate, fit
from ffnn_gpu.distributed.communicator import Single
from ffnn_gpu.errors import ConfigurationError, DivergedError, IncompatibleCheckpointError
from ffnn_gpu.training.callbacks import BestMembers

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 4)), RNG.integers(0, 3, 50)
HELD_OUT = RNG.normal(size=(20, 4)), RNG.integers(0, 3, 20)
LAYERS = [Dense(6, "relu"), BatchNorm(), Dense(3)]
MEMBERS = [Member(5, lr_factor=2.0), Member(1), Member(8, decay_factor=0.0)]
LOSS = "softmax_cross_entropy"


def train(network, optimizer, epochs=2, **settings):
    settings = {"batch_size": 16, "seed": 3, "verbose": 0} | settings
    return fit(
        network, LOSS, optimizer, (X, Y), epochs=epochs, validation=HELD_OUT, metrics="accuracy", **settings
    )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_members_equal_plain_runs_and_the_history_is_their_mean(backend, accumulate):
    pack = Network(4, LAYERS, backend, "float64", members=MEMBERS)
    adamw = AdamW(0.01, weight_decay=0.3, clip_norm=0.5, ema=0.9)
    found = train(pack, adamw, accumulate=accumulate)
    histories = []
    for r, member in enumerate(MEMBERS):
        network = Network(4, LAYERS, backend, "float64", member.seed)
        own = dataclasses.replace(adamw, lr=0.01 * member.lr_factor, weight_decay=0.3 * member.decay_factor)
        histories.append(train(network, own, accumulate=accumulate))
        numbers = pack.member(r).params.to_host()
        for name, want in network.params.to_host().items():
            np.testing.assert_allclose(numbers[name], want, rtol=1e-11, atol=1e-12, err_msg=name)
    for name in ("loss", "val_loss", "val_accuracy"):
        each = np.array([history[name] for history in histories])
        np.testing.assert_allclose(found[name], each.mean(axis=0), rtol=1e-10)
        if name != "loss":
            np.testing.assert_allclose([row[name] for row in found.members], each.T, rtol=1e-10)
    scores = evaluate(pack, LOSS, HELD_OUT, metrics="accuracy")
    assert (scores["accuracy"] == found.members[-1]["val_accuracy"]).all()


def test_masks_in_a_run_follow_its_seed(backend):
    layers = [Dense(6, "relu"), Dropout(0.4), Dense(3)]
    pack = Network(4, layers, backend, "float64", 7, members=2)
    train(pack, Adam(0.01), shuffle=False)
    for r in range(2):
        network = Network(4, layers, backend, "float64", 7 + r)
        train(network, Adam(0.01), shuffle=False, seed=3 + r)
        numbers = pack.member(r).params.to_host()
        for name, want in network.params.to_host().items():
            np.testing.assert_allclose(numbers[name], want, rtol=1e-11, atol=1e-12, err_msg=name)


def test_resumed_pack_equals_the_uninterrupted_one(backend, tmp_path):
    packs = [Network(4, LAYERS, backend, "float32", members=MEMBERS) for _ in range(3)]
    whole = train(packs[0], Adam(0.01, ema=0.9), 3)
    train(packs[1], Adam(0.01, ema=0.9), 1, checkpoint=tmp_path)
    rest = train(packs[2], Adam(0.01, ema=0.9), 3, checkpoint=tmp_path, resume=True)
    numbers = packs[0].params.to_host()
    assert all((numbers[name] == value).all() for name, value in packs[2].params.to_host().items())
    assert rest["val_loss"] == whole["val_loss"] and len(rest.members) == 3
    assert (rest.members[0]["val_loss"] == whole.members[0]["val_loss"]).all()
    other = Network(4, LAYERS, backend, "float32", members=3)
    with pytest.raises(IncompatibleCheckpointError, match="was written with members"):
        train(other, Adam(0.01, ema=0.9), 3, checkpoint=tmp_path, resume=True)


def test_early_stopping_restores_all_members(backend):
    pack = Network(4, LAYERS, backend, "float64", members=MEMBERS)
    history = train(pack, Adam(0.3), 12, early_stopping=1)
    scores = evaluate(pack, LOSS, HELD_OUT)
    best = history.best_epoch() - 1
    np.testing.assert_allclose(scores["loss"], history.members[best]["val_loss"], rtol=1e-12)


def test_best_members_equal_plain_runs_with_early_stopping(backend, tmp_path):
    ema, members = 0.8, [Member(5, lr_factor=20.0), Member(1), Member(8, lr_factor=8.0)]
    found = []
    for parts in ((9,), (3, 9)):  # uninterrupted, and resumed after three epochs
        pack = Network(4, LAYERS, backend, "float64", members=members)
        for k, epochs in enumerate(parts):
            settings = {"checkpoint": tmp_path, "resume": k > 0} if len(parts) > 1 else {}
            history = train(pack, Adam(0.02, ema=ema), epochs, callbacks=BestMembers(2), **settings)
        found.append((pack.params.to_host(), len(history)))
    assert found[0][1] == found[1][1]
    lengths = []
    for r, member in enumerate(members):
        network = Network(4, LAYERS, backend, "float64", member.seed)
        plain = train(network, Adam(0.02 * member.lr_factor, ema=ema), 9, early_stopping=2)
        lengths.append(len(plain))
        for name, want in network.params.to_host().items():
            for numbers, _ in found:
                np.testing.assert_allclose(numbers[name][r], want, rtol=1e-11, atol=1e-12, err_msg=name)
    assert max(lengths) == found[0][1] and len(set(lengths)) > 1


def test_wrong_uses_of_best_members_are_refused():
    pack = Network(4, LAYERS, "numpy", members=2)
    with pytest.raises(ConfigurationError, match="BestMembers monitors 'loss', which is one number"):
        fit(pack, LOSS, Adam(), (X, Y), verbose=0, callbacks=BestMembers())
    with pytest.raises(ConfigurationError, match="BestMembers needs a pack"):
        train(pack.member(0), Adam(), callbacks=BestMembers())
    with pytest.raises(ConfigurationError, match="the patience of BestMembers must be"):
        BestMembers(patience=0)


class Two(Single):
    """Two ranks, in the message of the error alone."""

    size = 2


def test_ranks_and_a_diverged_member_are_errors():
    pack = Network(4, LAYERS, "numpy", members=MEMBERS)
    with pytest.raises(ConfigurationError, match="a pack trains on one rank, and the communicator has 2"):
        fit(pack, LOSS, Adam(), (X, Y), verbose=0, communicator=Two())
    pack.params.views[0].W.stacked[1] = 1e38
    with pytest.raises(DivergedError):
        fit(pack, LOSS, Adam(), (X, Y), verbose=0)

"""BestMembers with values given for each epoch; tests/training/test_pack.py has whole runs."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from ffnn_gpu import Dense, Network
from ffnn_gpu.training.callbacks import BestMembers

VALUES = np.array([
    # best epoch 2; finished after epoch 4, so the value of epoch 6 does not count
    [3, 2, 4, 5, 9, 1, 0],
    [9, 8, 7, 8, 6, 6, 6],  # best epoch 5
    [np.nan, 5, np.inf, 4, 4, np.nan, 4],  # best epoch 4; not finite is never better
    [np.nan, np.inf, 1, 1, 1, 1, 1],  # finished after epoch 2 as it is then; EarlyStopping restores nothing
]).T  # fmt: skip
BEST, STOPPED = [2, 5, 4, 2], 7


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("resumed_after", [None, 1, 3, 5])
def test_each_member_has_the_parameters_of_its_best_epoch(mode, resumed_after):
    pack = Network(2, [Dense(2)], "numpy", members=4)
    history = SimpleNamespace(members=[])
    run = SimpleNamespace(network=pack, history=history, averaged=nullcontext, stop=False)
    run.columns = {"loss": "min", "val_loss": mode}
    callback = BestMembers(patience=2)
    callback.start(run)
    for epoch, values in enumerate(VALUES, 1):
        pack.params.theta[:] = epoch
        history.members.append({"val_loss": values if mode == "min" else -values})
        callback.after_epoch(run, {})
        if epoch == resumed_after:
            state, arrays = callback.state(), {name: a.copy() for name, a in callback.arrays().items()}
            callback = BestMembers(patience=2)
            callback.start(run)
            callback.restore(state, arrays)
        assert run.stop == (epoch >= STOPPED)
    callback.finish(run)
    assert pack.params.to_host()["0.b"][:, 0].tolist() == BEST


def test_member_without_a_finite_value_keeps_the_parameters_of_the_end():
    pack = Network(2, [Dense(2)], "numpy", members=2)
    run = SimpleNamespace(network=pack, averaged=nullcontext, stop=False, columns={"val_loss": "min"})
    callback = BestMembers()
    callback.start(run)
    for epoch in (1, 2, 3):
        pack.params.theta[:] = epoch
        run.history = SimpleNamespace(members=[{"val_loss": np.array([epoch, np.nan])}])
        callback.after_epoch(run, {})
    callback.finish(run)
    assert pack.params.to_host()["0.b"][:, 0].tolist() == [1, 3]

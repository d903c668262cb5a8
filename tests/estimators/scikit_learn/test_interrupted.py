"""Ctrl-C and SIGTERM during a fit."""

import signal

import numpy as np
import pytest
from ffnn_gpu.callbacks import Callback

from ffnn_gpu.estimators import MLPRegressor

X = np.random.default_rng(0).normal(size=(40, 3))


class Signals(Callback):
    """Sends a signal to this process after the second epoch."""

    def __init__(self, number):
        self.number = number

    def after_epoch(self, run, row):
        if run.epoch == 2:
            signal.raise_signal(self.number)


def test_ctrl_c_ends_the_fit_with_scikit_learns_warning_and_keeps_the_weights():
    model = MLPRegressor(callbacks=Signals(signal.SIGINT), random_state=0)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X, X[:, 0])
    assert model.n_iter_ == 2 and np.isfinite(model.predict(X)).all()


def test_sigterm_reaches_the_handler_of_the_program_after_the_fit():
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        model = MLPRegressor(callbacks=Signals(signal.SIGTERM), random_state=0).fit(X, X[:, 0])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM] and model.n_iter_ == 2

"""One training step calls functions of few files, so a reader can follow it."""

import sys
from pathlib import Path

import numpy as np

import ffnn_gpu
from ffnn_gpu import Adam, Dense, Network, fit, relu, softmax_cross_entropy, train_step
from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.training.run import TrainingRun

PACKAGE = Path(ffnn_gpu.__file__).parent
X, Y = np.random.default_rng(0).random((32, 8), "float32"), np.arange(32) % 3


def network():
    return Network(8, [Dense(16, relu), Dense(3)], NumpyBackend())


def files_passed(work):
    """Return the files of the package whose functions work() calls."""
    files = set()

    def called(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            files.add(str(path.relative_to(PACKAGE)))

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(before)
    return sorted(files)


def test_train_step_calls_functions_of_few_files():
    net, adam = network(), Adam()
    ws = net.workspace(32)
    train_step(net, softmax_cross_entropy, adam, X, Y, ws)
    files = files_passed(lambda: train_step(net, softmax_cross_entropy, adam, X, Y, ws))
    assert len(files) <= 9, files


def test_step_of_fit_calls_functions_of_few_files(monkeypatch):
    files, step = [], TrainingRun.step
    monkeypatch.setattr(TrainingRun, "step", lambda run: files.append(files_passed(lambda: step(run))))
    fit(network(), softmax_cross_entropy, Adam(), (X, Y), epochs=1, batch_size=8, verbose=0)
    assert len(files) == 4 and len(files[1]) <= 14, files[1]

"""Threads predict at the same time in workspaces of their own; a shared workspace raises."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest

from ffnn_gpu import (
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LayerNorm,
    Network,
    Residual,
    WorkspaceError,
    gelu,
    relu,
)
from ffnn_gpu.backends.choice import Backend, NumpyBackend

THREADS, ROUNDS, ROWS = 8, 1000, 4
LAYERS = [Dense(16, relu), Residual([LayerNorm(), Dense(16, gelu)]), Dropout(0.5), BatchNorm(), Dense(3)]
X = np.random.default_rng(0).normal(size=(THREADS, ROWS, 5)).astype(np.float32)


@pytest.fixture(autouse=True)
def frequent_switches():
    """Switch between threads every microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work):
    """Return [work(0), …, work(7)], each computed in its own thread, all started at once."""
    barrier = threading.Barrier(THREADS)

    def begin(i):
        barrier.wait()
        return work(i)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


def wrong_rounds(network, i, want, workspace):
    """Return how many rounds have other bits than `want`."""
    ws = workspace(network)
    return sum(network.forward(X[i], ws).tobytes() != want for _ in range(ROUNDS))


@pytest.mark.parametrize("backends", ["a shared backend", "backends of their own"])
@pytest.mark.parametrize("kind", [NumpyBackend, Backend])
def test_threads_with_own_workspaces_predict_the_same_as_one_thread(kind, backends):
    network = Network(5, LAYERS, kind())
    want = [network.predict(x).tobytes() for x in X]
    networks = [network if backends.startswith("a") else network.to(kind()) for _ in X]
    own = lambda network: network.workspace(ROWS, training=False)  # noqa: E731
    assert in_threads(lambda i: wrong_rounds(networks[i], i, want[i], own)) == [0] * THREADS


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_predict_creates_a_workspace_for_each_thread(dtype):
    network = Network(5, LAYERS, "numpy", dtype)
    want = [network.predict(x).tobytes() for x in X]
    wrong = in_threads(lambda i: sum(network.predict(X[i]).tobytes() != want[i] for _ in range(ROUNDS // 10)))
    assert wrong == [0] * THREADS


@dataclass(frozen=True, repr=False)
class Pause(Layer):
    """a = x, after a call of `during`."""

    during: list = field(default_factory=list, compare=False)

    def forward(self, backend, p, x, buf):
        for action in self.during:
            action()
        return backend.copy(x, out=buf.a)

    def backward(self, backend, p, da, buf):
        for action in self.during:
            action()
        return da


def error_in_another_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).exception()


@pytest.mark.parametrize("moment", ["forward", "backward"])
@pytest.mark.parametrize("intruder", ["forward", "forward of a part", "backward"])
def test_pass_in_a_workspace_in_use_by_another_thread_raises_and_changes_nothing(backend, moment, intruder):
    pause, y = Pause(), np.ones((ROWS, 3))
    network = Network(5, [Dense(8, relu), pause, Dense(3)], backend, "float64")
    ws, other = network.workspace(ROWS), network.workspace(ROWS)
    x, dz = network.backend.asarray(X[0], "float64"), network.backend.asarray(y)
    want = np.array(network.backend.to_host(network.forward(x, other)))
    network.backward(network.backend.duplicate(dz), other)
    gradient, errors = np.array(network.backend.to_host(network.params.grad)), []
    intrude = {
        "forward": lambda: network.forward(2 * x, ws),
        "forward of a part": lambda: network.forward(x[:2], ws.first(2)),
        "backward": lambda: network.backward(dz, ws),
    }[intruder]
    disturbance = [lambda: errors.append(error_in_another_thread(intrude))]
    pause.during[:] = disturbance if moment == "forward" else []
    z = np.array(network.backend.to_host(network.forward(x, ws)))
    pause.during[:] = disturbance if moment == "backward" else []
    network.backward(network.backend.duplicate(dz), ws)
    (error,) = errors
    assert isinstance(error, WorkspaceError)
    np.testing.assert_array_equal(z, want)
    np.testing.assert_array_equal(network.backend.to_host(network.params.grad), gradient)


def test_workspace_may_be_passed_between_threads():
    network = Network(5, LAYERS, "numpy")
    ws = network.workspace(ROWS, training=False)
    want = network.predict(X[0]).tobytes()
    assert [error_in_another_thread(lambda: network.forward(X[0], ws)) for _ in range(3)] == [None] * 3
    assert network.forward(X[0], ws).tobytes() == want


def test_workspace_is_free_after_a_failed_pass():
    def fail():
        raise ZeroDivisionError

    pause = Pause([fail])
    network = Network(5, [Dense(8), pause, Dense(3)], "numpy")
    ws = network.workspace(ROWS)
    with pytest.raises(ZeroDivisionError):
        network.forward(X[0], ws)
    pause.during.clear()
    network.forward(X[0], ws)
    ws.dz[...] = 1
    pause.during.append(fail)
    with pytest.raises(ZeroDivisionError):
        network.backward(ws.dz, ws)
    pause.during.clear()
    network.forward(X[0], ws)
    network.backward(ws.dz, ws)

"""Draw correct networks, and count those that check_gradients or assert_parity rejects.

Drawn: rows, widths, layers, activations, losses, number types and sizes of numbers, among them BatchNorm over
two rows and gradients that cancel. On the same networks a backend with one wrong operation must be rejected.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu import BatchNorm, Dense, Dropout, LayerNorm, Network, Residual
from ffnn_gpu.backends import Backend
from ffnn_gpu.errors import FfnnGpuError
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.testing import assert_parity, check_gradients
from proofs import Figure, Settings

TYPES = ("float32", "float64", "bfloat16", "float16")
LOSSES = (
    "mean_squared_error",
    "softmax_cross_entropy",
    "binary_cross_entropy_with_logits",
    "huber",
    "poisson",
)
NETWORKS_PER_EXAMPLE = 5  # 2,000 networks of each kind of check with the 400 examples of the command line


class Drawn(NamedTuple):
    """One network with a batch and a loss."""

    number: int
    network: Network
    loss: str
    x: Any
    y: Any


def draw(number: int, backend: Any = "numpy", seed: int = 0) -> Drawn:
    """Return the network of this number; the same network on every machine."""
    rng = np.random.default_rng([7 + seed, number])
    dtype, rows = TYPES[number % 4], int(rng.choice([2, 3, 4, 8, 16]))
    n_in, n_out = int(rng.integers(1, 6)), int(rng.integers(2, 6))
    layers = [layer for _ in range(rng.integers(0, 4)) for layer in _layers(rng)]
    network = Network(n_in, [*layers, Dense(n_out)], backend, dtype, seed=number)
    # Away from kinks: a bias of 0 behind a dropout of everything is at the kink of relu.
    numbers = network.params.to_host()
    network.params.assign(
        {
            name: v + rng.uniform(0.01, 0.1, v.shape).astype(v.dtype) if name.endswith(".b") else v
            for name, v in numbers.items()
        }
    )
    loss = str(rng.choice(LOSSES))
    x = rng.normal(size=(rows, n_in)) * 10.0 ** rng.uniform(-1, 0 if loss == "poisson" else 1)
    return Drawn(number, network, loss, x, _targets(rng, loss, rows, n_out))


def _layers(rng: np.random.Generator) -> list[Any]:
    width = int(rng.integers(1, 8))
    dense = Dense(width, str(rng.choice(list(ACTIVATIONS))))
    more = [[], [BatchNorm()], [LayerNorm()], [Dropout(0.3)], [Residual([Dense(width, "tanh")])]]
    return [dense, *more[rng.integers(0, len(more))]]


def _targets(rng: np.random.Generator, loss: str, rows: int, n_out: int) -> Any:
    if loss == "softmax_cross_entropy":
        return rng.integers(0, n_out, rows)
    if loss == "binary_cross_entropy_with_logits":
        return rng.integers(0, 2, (rows, n_out)).astype(float)
    return rng.integers(0, 4, (rows, n_out)) if loss == "poisson" else rng.normal(size=(rows, n_out))


class Wrong(Backend):
    """The gradient of every bias is the mean instead of the sum."""

    name = "wrong"

    def column_sum(self, A: Any, out: Any) -> Any:
        super().column_sum(A, out)
        out /= max(len(A), 1)
        return out


def gradients(drawn: Drawn) -> None:
    check_gradients(drawn.network, drawn.loss, drawn.x, drawn.y)


def parity(drawn: Drawn) -> None:
    assert_parity(drawn.network, drawn.x, drawn.y, drawn.loss)


def alarms(
    check: Callable[[Drawn], None], count: int, backend: Any = "numpy", seed: int = 0
) -> tuple[int, list[str]]:
    """Return how many networks could be checked, and one line for each that was rejected."""
    found, checked = [], 0
    for number in range(count):
        drawn = draw(number, backend, seed)
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                check(drawn)
        except AssertionError as error:
            found.append(f"{number}, {drawn.network.compute_dtype}: {error}"[:300])
        except FfnnGpuError:  # numbers that no type or no difference can represent: no verdict of the check
            continue
        checked += 1
    return checked, found


def prove(settings: Settings) -> list[Figure]:
    """Return one row for each check, and one for a wrong backend."""
    count, rows = NETWORKS_PER_EXAMPLE * settings.examples, []
    for name, check in {"check_gradients": gradients, "assert_parity": parity}.items():
        checked, found = alarms(check, count, seed=settings.seed)
        figure = f"{len(found)} of {checked} rejected"
        rows.append(Figure(f"{name} accepts correct networks", figure, checked > 0 and not found, found))
        settings.say(f"alarms: {name}: {figure}")
    checked, found = alarms(gradients, settings.examples // 4, Wrong(), settings.seed)
    figure = f"{len(found)} of {checked} rejected"
    return [*rows, Figure("check_gradients rejects a wrong bias gradient", figure, checked == len(found))]

"""Quartiles have the bits of np.percentile, whatever the numbers and their order."""

import numpy as np
import pytest

from ffnn_gpu.tables import quartiles as module
from ffnn_gpu.tables.quartiles import quartiles

RNG = np.random.default_rng(0)
N = 70_001
NUMBERS = {
    "normal": RNG.normal(50, 10, N).round(4),
    "few values": RNG.integers(0, 3, N).astype(np.float64),
    "one value": np.full(N, 0.1),
    "increasing": np.arange(N) * 0.1,
    "in turns, as the sample": np.tile([*range(17)], N // 17) + 0.3,
    "huge and tiny": RNG.integers(0, 2**63, N).view(np.float64),
    "odd numbers where the sample looks": np.where(
        np.arange(N) % (N // module.SAMPLE), RNG.normal(size=N), 9.0
    ),
    "half": np.repeat([0.0, 1.0], N // 2),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_quartiles_have_the_bits_of_numpy(name):
    x = NUMBERS[name][np.isfinite(NUMBERS[name])]
    for n in (len(x), len(x) - 1, len(x) - 2, len(x) - 3, 10, 1):
        with np.errstate(over="ignore"):
            wanted = np.percentile(x[:n], (0, 25, 50, 75, 100))
            assert np.array(quartiles(x[:n])).tobytes() == wanted.tobytes()

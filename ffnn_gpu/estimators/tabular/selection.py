"""Choose among kinds of members by predictions for rows that they were not trained on."""

from collections.abc import Callable, Mapping

from ffnn_gpu.arrays.array_types import HostArray

ROUNDS = 12
# A candidate must lower the error by this share. Why: on a few hundred rows smaller gains are noise.
MARGIN = 1e-3


def greedy(
    predictions: Mapping[str, HostArray], error: Callable[[HostArray], float], margin: float = MARGIN
) -> dict[str, float]:
    """Return name → weight of the candidates whose weighted mean has a low error; the weights sum to 1.

    Forward selection with replacement: begin with the best candidate, then add again and again the one that
    lowers the error of the mean most. Stop when none lowers it by the share `margin`, or after ROUNDS.

    Args:
        predictions: name → probabilities or numbers, of one shape, for rows that no member was trained on.
        error: of such predictions; lower is better.

    Reference: Caruana et al.: Ensemble Selection from Libraries of Models (2004), section 2.
    """
    chosen: list[str] = []
    total: HostArray | float = 0.0
    least = float("inf")
    for _ in range(ROUNDS):
        errors = {name: error((total + p) / (len(chosen) + 1)) for name, p in predictions.items()}
        best = min(errors, key=lambda name: errors[name])
        if chosen and not errors[best] < least - margin * abs(least):
            break
        chosen.append(best)
        total, least = total + predictions[best], errors[best]
    return {name: chosen.count(name) / len(chosen) for name in predictions if name in chosen}

"""Trained members → one network that returns their weighted mean."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends import Backend
from ffnn_gpu.estimators.tabular.members import Member
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.activations import sigmoid
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import Average, Dense, Dropout, Softmax, Stack
from ffnn_gpu.nn.network import Network

ON_PROBABILITIES = {"softmax_cross_entropy": "cross_entropy"} | {
    "binary_cross_entropy_with_logits": "binary_cross_entropy"
}


def task_of_means(task: Task) -> Task:
    """Return the task of a network that returns probabilities, where the members return logits."""
    return replace(task, loss_name=ON_PROBABILITIES.get(task.loss_name, task.loss_name), label_smoothing=0.0)


def joined(
    members: Sequence[Member],
    weights: Mapping[str, float],
    task: Task,
    temperatures: Mapping[str, float],
    backend: Backend,
) -> Network:
    """Return the network Σ w p(z / T), where z are the outputs of a member and p its probabilities.

    A regression has neither p nor T. Members whose recipe has no weight are left out.

    Args:
        weights: name of a recipe → the weight that its members share.
        task: of the members.
        temperatures: name of a recipe → T.
    """
    chosen = [member for member in members if member.plan.recipe.name in weights]
    names = [member.plan.recipe.name for member in chosen]
    shares = [weights[name] / names.count(name) for name in names]
    stacks = tuple(Stack(_layers(member.network.layers, task)) for member in chosen)
    first = chosen[0].network
    mean = Average(stacks, tuple(w / sum(shares) for w in shares))
    network = Network(first.n_in, [mean], backend, first.compute_dtype)
    arrays: dict[str, Any] = {}
    for r, member in enumerate(chosen):
        for name, array in _arrays(member.network, temperatures[member.plan.recipe.name]).items():
            arrays[f"0.layers.{r}.layers.{name}"] = array
    network.params.assign(arrays)
    return network


def _layers(layers: Sequence[Layer], task: Task) -> tuple[Layer, ...]:
    """Return the layers of a member that predict, with probabilities as the last output."""
    *hidden, last = (layer for layer in layers if not isinstance(layer, Dropout))
    if task.loss_name == "softmax_cross_entropy":
        return *hidden, last, Softmax()
    if task.loss_name == "binary_cross_entropy_with_logits" and isinstance(last, Dense):
        return *hidden, replace(last, activation=sigmoid)
    return *hidden, last


def _arrays(network: Network, temperature: float) -> dict[str, HostArray]:
    """Return the parameters by their names without Dropout layers; those of the last layer divided by T."""
    kept = [k for k, layer in enumerate(network.layers) if not isinstance(layer, Dropout)]
    found = {}
    for name, array in network.params.to_host().items():
        k, _, rest = name.partition(".")
        scale = temperature if int(k) == len(network.layers) - 1 else 1.0
        found[f"{kept.index(int(k))}.{rest}"] = np.asarray(array / scale, array.dtype)
    return found

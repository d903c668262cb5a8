"""Three classic networks by hand: their losses, their gradients, and a second opinion on the gradients.

    python3 examples/classic_networks.py

The second opinion is PyTorch's automatic differentiation if it is installed, otherwise central differences.
The formulas are in docs/mathematics.md.
"""

# %% What is computed here
# `gradients` is one forward and one backward pass. `by_pytorch` and `by_differences` compute the same numbers
# in other ways. All numbers are float64.

from importlib.util import find_spec

import numpy as np
from sklearn.datasets import load_digits

from ffnn_gpu import (
    SGD,
    Adam,
    Dense,
    Network,
    mean_squared_error,
    sigmoid,
    softmax_cross_entropy,
    tanh,
    train_step,
)


def gradients(network, loss, x, y):
    """Return name → gradient of the loss, from one forward and one backward pass."""
    ws = network.workspace(len(x))
    loss(network.backend, network.forward(x, ws), y, dz=ws.dz)  # ws.dz = ∂L/∂z
    network.backward(ws.dz, ws)
    return {f"{name}{k}": getattr(p, f"d{name}").copy() for k, p in views(network) for name in "Wb"}


def views(network):
    """Return (number of the layer from 1, its W, b, dW and db)."""
    return [*enumerate(network.params.views, 1)]


def by_differences(network, loss, x, y, h=1e-6):
    """Return name → (L(θ + h) − L(θ − h)) / 2h, one parameter after the other."""
    ws, found = network.workspace(len(x), training=False), {}
    value = lambda: float(loss(network.backend, network.forward(x, ws), y))  # noqa: E731
    for k, p in views(network):
        for name in "Wb":
            array = getattr(p, name)
            slope = found[f"{name}{k}"] = np.empty(array.shape)
            for place in np.ndindex(array.shape):
                kept = array[place]
                array[place] = kept + h
                above = value()
                array[place] = kept - h
                slope[place] = (above - value()) / (2 * h)
                array[place] = kept
    return found


def by_pytorch(network, loss, x, y):
    """Return name → gradient by PyTorch."""
    import torch
    from torch.nn import functional

    phi = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "identity": lambda s: s}
    losses = {mean_squared_error: functional.mse_loss, softmax_cross_entropy: functional.cross_entropy}
    leaves, a = {}, torch.tensor(x)
    for (k, p), layer in zip(views(network), network.layers, strict=True):
        W, b = (torch.tensor(array, requires_grad=True) for array in (p.W, p.b))
        leaves |= {f"W{k}": W, f"b{k}": b}
        a = phi[layer.activation.name](a @ W + b)
    losses[loss](a, torch.tensor(y)).backward()
    return {name: leaf.grad.numpy() for name, leaf in leaves.items()}


def compare(network, loss, x, y):
    """Print the norms of all gradients beside those of the second opinion."""
    peers = (by_pytorch, "PyTorch", 1e-12), (by_differences, "differences", 1e-7)
    other, source, allowed = peers[0 if find_spec("torch") else 1]
    ours, theirs = gradients(network, loss, x, y), other(network, loss, x, y)
    print(f"  {'gradient':8} {'ffnn_gpu':>18} {source:>18}   largest difference")
    for name, g in ours.items():
        worst = abs(g - theirs[name]).max()
        print(
            f"  ‖d{name}‖    {np.linalg.norm(g):18.14f} {np.linalg.norm(theirs[name]):18.14f}   {worst:.0e}"
        )
        assert worst < allowed


def train(network, loss, optimizer, x, y, steps):
    """Take steps on all rows; return the loss before the first and at the last."""
    ws = network.workspace(len(x))
    values = [float(train_step(network, loss, optimizer, x, y, ws)) for _ in range(steps)]
    return f"loss {values[0]:.4f} → {values[-1]:.4f} in {steps} steps"


# %% XOR
# One layer cannot compute XOR: no line separates (0, 1) and (1, 0) from (0, 0) and (1, 1).
# Two hidden units are enough (Rumelhart, Hinton, Williams 1986).

x, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[0.0], [1], [1], [0]])
network = Network(2, [Dense(2, sigmoid), Dense(1, sigmoid)], device="cpu", dtype="float64", seed=1)
print("XOR: 2-2-1, sigmoid, squared error")
compare(network, mean_squared_error, x, y)
print(" ", train(network, mean_squared_error, SGD(lr=2, momentum=0.9), x, y, steps=1000))
print("  outputs:", *network.predict(x)[:, 0].round(2), "\n")

# %% A function of one number
# Twenty tanh units draw a curve. The output layer has no activation, because its numbers have no bounds.

rng = np.random.default_rng(0)
x = rng.uniform(-2, 2, (200, 1))
y = np.sin(3 * x) + 0.05 * rng.normal(size=x.shape)
network = Network(1, [Dense(20, tanh), Dense(1)], device="cpu", dtype="float64", seed=0)
print("sin 3x with noise: 1-20-1, tanh, squared error")
compare(network, mean_squared_error, x, y)
print(" ", train(network, mean_squared_error, Adam(lr=0.02), x, y, steps=2000))
inside = np.linspace(-1.5, 1.5, 5).reshape(-1, 1)
print("  x      ", *(f"{value:6.2f}" for value in inside[:, 0]))
print("  network", *(f"{value:6.2f}" for value in network.predict(inside)[:, 0]))
print("  sin 3x ", *(f"{value:6.2f}" for value in np.sin(3 * inside[:, 0])), "\n")

# %% Handwritten digits
# Ten outputs, one for each digit. Softmax is a part of the loss, so the last layer has no activation.

x, y = load_digits(return_X_y=True)
x = x / 16
network = Network(64, [Dense(16, tanh), Dense(10)], device="cpu", dtype="float64", seed=0)
print("digits: 64-16-10, tanh, softmax and cross-entropy")
compare(network, softmax_cross_entropy, x[:50], y[:50])
print(" ", train(network, softmax_cross_entropy, Adam(lr=0.02), x[:1500], y[:1500], steps=150))
accuracy = (network.predict(x[1500:]).argmax(axis=1) == y[1500:]).mean()
print(f"  accuracy on {len(x) - 1500} other images: {accuracy:.3f}")

"""ffnn_gpu: `train_step` in a loop over arrays on the device, with one workspace.

With checked=True the targets are converted and checked before the loop, as `fit` does it. The variant
"checking" passes them as they are, and every step checks them.
"""

import numpy as np

from benchmarks.contenders.steps import in_turn
from benchmarks.kinds import HOLDERS, TABLE_LAYERS, minibatches, weights

NAMES = {"Dense": ("W", "b"), "Embedding": ("E",), **TABLE_LAYERS}


def step(kind, variant):
    from ffnn_gpu import losses, optim, train_step

    network, loss = made(kind), losses.get_loss(kind.loss)
    optimizer = optim.get_optimizer(kind.optimizer, lr=kind.lr, **kind.options)
    ws, backend, O = network.workspace(kind.B), network.backend, network.widths[-1]
    if variant == "checking":
        targets, checked = backend.asarray, {}
    else:
        targets, checked = lambda y: backend.asarray(loss.targets(y, O, network.dtype)), {"checked": True}
    batches = [(backend.asarray(x, network.compute_dtype), targets(y)) for x, y in minibatches(kind)]

    def launch(x, y):
        return train_step(network, loss, optimizer, x, y, ws, **checked)

    return in_turn(launch, batches, lambda result: backend.synchronize(), lambda z: float(np.asarray(z)))


def made(kind):
    """Return the network with the common initial weights."""
    from ffnn_gpu import Network

    network = Network(kind.n_in, [*map(layer, kind.layers)], device="numpy", dtype=kind.precision)
    arrays = dict(named(kind.layers, weights(kind)))
    network.params.assign({name: arrays.get(name, view) for name, view in network.params.named()})
    return network


def layer(described):
    """Return the layer of ffnn_gpu that a Kind describes."""
    from ffnn_gpu import layers

    name, *arguments = described
    if name in HOLDERS:
        return getattr(layers, name)([*map(layer, arguments[0])])
    return getattr(layers, name)(*arguments)


def named(layers, values, prefix=""):
    """Yield ("1.layers.0.W", array) for every initial value."""
    for k, (described, arrays) in enumerate(zip(layers, values, strict=True)):
        if described[0] in HOLDERS:
            yield from named(described[1], arrays, f"{prefix}{k}.layers.")
        else:
            names = NAMES.get(described[0], ("gain", "bias"))
            yield from ((f"{prefix}{k}.{name}", array) for name, array in zip(names, arrays, strict=False))

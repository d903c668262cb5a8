"""Training runs whose result must not depend on the number of ranks.

Each has about 20 steps. BatchNorm over two or three rows amplifies a difference in the last bit to 10⁻³
within 100 steps, also between two backends on one process.
"""

import numpy as np

from ffnn_gpu import Network, fit, relu, tanh
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual
from ffnn_gpu.nn.losses.standard import SoftmaxCrossEntropy, mean_squared_error, softmax_cross_entropy
from ffnn_gpu.optim.optimizers import SGD, Adagrad, Adam, AdamW, Lion, Nadam, RMSprop

rng = np.random.default_rng(11)
X = rng.normal(size=(53, 5))
LABELS = rng.integers(0, 3, 53)
NUMBERS = np.tanh(X @ rng.normal(size=(5, 3)))
WEIGHT = rng.random(53) * (rng.random(53) > 0.3)

OPTIMIZERS = {
    "sgd": SGD(0.05), "momentum": SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(1e-2, momentum=0.5), "adagrad": Adagrad(5e-2), "adam": Adam(1e-2),
    "adamw": AdamW(1e-2), "nadam": Nadam(1e-2), "lion": Lion(1e-3),
    "penalized": Adam(1e-2, l2=1e-2, l1=1e-3, weight_decay=1e-2),
    "scheduled": Adam(1e-2, weight_decay=0.5, decay_schedule="flat_cos"),
    "clipped": SGD(0.05, momentum=0.9, clip_norm=0.05),
    "bounded": Adam(1e-2, clip_value=1e-3), "averaged": SGD(0.05, momentum=0.9, ema=0.9, clip_norm=0.2),
}  # fmt: skip
# With llvmlite, the first two run as recorded tables; the others run operation by operation.
NETWORKS = {
    "dense": [Dense(7, relu), Dense(3)],
    "dropout": [Dense(7, relu), Dropout(0.3), LayerNorm(), Dense(6, relu), Dropout(0.2), Dense(3)],
    "batch_norm": [
        Dense(7, relu),
        BatchNorm(),
        Residual([Dense(7, tanh), BatchNorm(), Dropout(0.2)]),
        Dense(3),
    ],
    "factors": [Dense(7, relu, lr_factor=0.5, bias_lr_factor=0.1), Dense(3, decay_factor=0.5)],
    "scheduled": [
        Dense(7, relu),
        Residual([Dense(7, relu), Dropout(0.5, "flat_cos")]),
        Dropout(0.3, "cosine"),
        Dense(3),
    ],
    "batch_norm_first": [BatchNorm(), Dense(7, tanh), BatchNorm(), Dense(3)],
}
# Name → further arguments of fit. Of 53 rows, the last batch of 16 has 5 rows. The last batch of 17 has two
# rows, so there may be fewer rows than ranks; BatchNorm needs two.
SETTINGS = {
    "plain": {},
    "uneven": {"batch_size": 17},
    "drop_last": {"batch_size": 13, "drop_last": True},
    "weights": {"sample_weight": WEIGHT},
    "class_weight": {"class_weight": "balanced"},
    "accumulate": {"accumulate": 3},
    "accumulated_weights": {"accumulate": 4, "sample_weight": WEIGHT, "batch_size": 17},
    "tiny": {"batch_size": 3, "epochs": 1},
    "validated": {"validation": 0.2, "metrics": ["accuracy"], "early_stopping": 3},
    "ordered": {"shuffle": False},
}  # fmt: skip
LOSSES = {
    "softmax": (softmax_cross_entropy, LABELS), "class": (SoftmaxCrossEntropy(0.1, (1.0, 7.0, 0.3)), LABELS),
    "mse": (mean_squared_error, NUMBERS),
}  # fmt: skip


def train(communicator=None, *, optimizer="adam", network="dense", settings="plain", loss="softmax", **more):
    """Train for about 20 steps; return (θ and statistics by name, history)."""
    net = Network(5, NETWORKS[network], more.pop("backend", "numpy"), more.pop("dtype", "float64"), seed=3)
    function, y = LOSSES[loss]
    options = {"batch_size": 16, "epochs": 5, "seed": 4, "verbose": 0} | SETTINGS[settings] | more
    history = fit(net, function, OPTIMIZERS[optimizer], (X, y), communicator=communicator, **options)
    return net.params.to_host(), history


def assert_same_training(found, expected, tolerance=1e-12):
    """Compare θ, the statistics and every column of the history except times."""
    (numbers, history), (wanted, reference) = found, expected
    for name, value in wanted.items():
        scale = np.abs(value).max() + 1e-300
        error = np.abs(numbers[name] - value).max() / scale
        assert error <= tolerance, f"{name} differs by {error:.1e} relative"
    assert len(history) == len(reference)
    for column in set(reference.columns) - {"seconds", "samples_per_second"}:
        np.testing.assert_allclose(history[column], reference[column], rtol=1e-11, err_msg=column)


# Every optimizer, every network and every split of the rows. The tests run them with and without shards.
CASES = [
    *({"optimizer": name} for name in OPTIMIZERS),
    *(
        {"optimizer": name, "network": "batch_norm", "settings": "uneven"}
        for name in ("momentum", "averaged")
    ),
    *({"network": name, "optimizer": "momentum"} for name in NETWORKS),
    {"network": "factors", "optimizer": "penalized"},
    *({"network": "dropout", "settings": name, "optimizer": "clipped"} for name in SETTINGS),
    *({"network": "batch_norm", "settings": name, "optimizer": "momentum"} for name in SETTINGS),
    *({"loss": name, "settings": "weights", "optimizer": "momentum"} for name in LOSSES),
    *({"loss": name, "settings": "accumulated_weights", "optimizer": "momentum"} for name in LOSSES),
]

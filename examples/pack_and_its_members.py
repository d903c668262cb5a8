"""Train sixteen networks as one, look at each, and keep the best as an ensemble.

    python3 examples/pack_and_its_members.py

A pack is R networks of one architecture whose parameters are in the arrays of one `Network`: see
docs/packs.md.
"""

# %% The data
# Five columns of ten matter (Friedman 1991). The noise has the variance 1, so no model has a smaller error.

import numpy as np
from ffnn_gpu.callbacks import BestMembers

from ffnn_gpu import AdamW, Dense, Dropout, Member, Network, evaluate, fit, load, save

rng = np.random.default_rng(0)
x = rng.uniform(size=(1800, 10)).astype("float32")
y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
y = (y + rng.normal(size=len(x))).astype("float32").reshape(-1, 1)
mean, spread = y[:1000].mean(), y[:1000].std()
y = (y - mean) / spread
training, validation, test = ((x[rows], y[rows]) for rows in np.split(np.arange(1800), [1000, 1400]))

# %% The members
# Each member has its own seed, learning rate and weight decay, drawn at random.

layers = [Dense(64, "silu"), Dropout(0.02), Dense(64, "silu"), Dense(1)]
members = [
    Member(seed=r, lr_factor=10 ** rng.uniform(-0.3, 0.3), decay_factor=10 ** rng.uniform(-1, 1))
    for r in range(16)
]
lr, decay = 0.03, 0.01

# %% One training run
# All members see the same minibatches. An error is a mean of squares, in units of the noise's variance.

settings = {"epochs": 20, "batch_size": 50, "verbose": 0}
pack = Network(10, layers, device="cpu", members=members)
fit(pack, "mse", AdamW(lr, weight_decay=decay), training, schedule="flat_cos", **settings)
errors = spread**2 * evaluate(pack, "mse", validation)["loss"]
print("member  learning rate  weight decay  error")
for r in errors.argsort():
    rates = f"{lr * members[r].lr_factor:13.4f}  {decay * members[r].decay_factor:12.3f}"
    print(f"{r:6}  {rates}  {errors[r]:5.2f}")

# %% A member is a network
# Member 0, trained alone, makes the same predictions. The seed of `fit` decides the order of rows and the
# dropout of member 0; the dropout of member r has this seed + r.

own = members[0]
alone = Network(10, layers, device="cpu", seed=own.seed)
rule = AdamW(lr * own.lr_factor, weight_decay=decay * own.decay_factor)
fit(alone, "mse", rule, training, schedule="flat_cos", **settings)
difference = abs(alone.predict(test[0]) - pack.predict(test[0])[0]).max()
print(f"member 0 trained alone: its predictions differ by at most {difference:.0e}")

# %% The best as an ensemble
# `select` makes a pack of some members. The squared error of their mean prediction is at most the mean of
# their errors (Jensen's inequality), and smaller as far as they err in different directions.

best = pack.select(errors.argsort()[:5])
each = best.predict(test[0])
apart = spread**2 * evaluate(best, "mse", test)["loss"]
together = spread**2 * np.mean((each.mean(axis=0) - test[1]) ** 2)
print(
    "test errors of the five best members:",
    *(f"{error:.2f}" for error in apart),
    f"(mean {apart.mean():.2f})",
)
print(f"test error of their mean prediction: {together:.2f}")

# %% One member in a file

save(best.member(0), "best.safetensors")
assert (load("best.safetensors", device="cpu").predict(test[0]) == each[0]).all()

# %% Early stopping of each member
# `BestMembers` restores each member's own best epoch. The run ends when none has improved for `patience`.

pack = Network(10, layers, device="cpu", members=members)
stop = BestMembers(patience=5)
fit(pack, "mse", AdamW(lr), training, validation=validation, callbacks=stop, **settings)
errors = spread**2 * evaluate(pack, "mse", validation)["loss"]
print(f"errors at their own best epochs: {errors.min():.2f} to {errors.max():.2f}")

"""Keras with the engine in KERAS_BACKEND, which the launcher sets: train_on_batch, predict_on_batch, fit."""

import numpy as np

from benchmarks.contenders import Program
from benchmarks.jobs import batch, pictures, weights


def train(job, variant):
    model, (x, y) = made(job), batch(job)
    return Program(lambda: model.train_on_batch(x, y), to_host=lambda loss: np.asarray(loss, np.float32))


def predict(job, variant):
    model, (x, _) = made(job), batch(job)
    return Program(lambda: model.predict_on_batch(x))


def epoch(job, variant):
    model, (pixels, labels) = made(job), pictures(job)

    def launch():
        x = pixels * np.float32(1 / 255)
        return model.fit(x, labels, batch_size=job.B, epochs=1, shuffle=True, verbose=0)

    return Program(launch, to_host=lambda history: history.history["loss"][-1])


def made(job):
    """Return a compiled model with the common initial weights."""
    import keras

    *hidden, outputs = job.widths[1:]
    layers = [*(keras.layers.Dense(width, "relu") for width in hidden), keras.layers.Dense(outputs)]
    model = keras.Sequential([keras.Input((job.widths[0],)), *layers])
    for layer, (W, b) in zip(layers, weights(job), strict=True):
        layer.set_weights([W, b])
    model.compile(
        keras.optimizers.Adam(job.lr, epsilon=1e-8),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model

"""scikit-learn: MLPClassifier.partial_fit on one batch, or on the whole set for an epoch."""

import numpy as np

from benchmarks.contenders import Program, UnsupportedError
from benchmarks.jobs import batch, pictures, weights


def train(job, variant):
    (x, y), classifier = batch(job), made(job)

    def step():
        classifier.partial_fit(x, y)
        return classifier.loss_

    return Program(step)


def predict(job, variant):
    (x, _), classifier = batch(job), made(job)
    return Program(lambda: classifier.predict_proba(x), to_host=np.log)  # logits up to a constant in each row


def epoch(job, variant):
    (pixels, labels), classifier = pictures(job), made(job)
    classifier.set_params(shuffle=True)

    def launch():
        classifier.partial_fit(pixels * np.float32(1 / 255), labels)
        return classifier.loss_

    return Program(launch)


def made(job):
    """Return a classifier with the common initial weights and new moments."""
    from sklearn.neural_network import MLPClassifier

    _, *hidden, outputs = job.widths
    if outputs == 2:
        raise UnsupportedError("scikit-learn makes one logistic output of two classes: another network")
    classifier = MLPClassifier(
        tuple(hidden), solver="adam", alpha=0.0, batch_size=job.B, learning_rate_init=job.lr, shuffle=False
    )
    (x, y), start = batch(job), weights(job)
    classifier.partial_fit(x, y, classes=np.arange(outputs))  # allocates
    for k, (W, b) in enumerate(start):
        classifier.coefs_[k][...], classifier.intercepts_[k][...] = W, b
    del classifier._optimizer  # the next step makes a new one
    return classifier

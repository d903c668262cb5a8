"""Change one import from scikit-learn, and compare: the same scores, in less time.

    python3 examples/compare_with_scikit_learn.py

Both classes draw the same weights and the same order of rows from random_state. So in float64 they learn the
same network, up to rounding.
"""

import time
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier as ScikitLearnMLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ffnn_gpu import MLPClassifier  # the import that changes

# %% The data

warnings.simplefilter("ignore", ConvergenceWarning)
X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, random_state=0)

# %% Two classes, one network
# The parameters are the same, and so are the random numbers.

found = {}
for name, kind in {"scikit-learn": ScikitLearnMLPClassifier, "ffnn_gpu": MLPClassifier}.items():
    model = make_pipeline(StandardScaler(), kind(hidden_layer_sizes=(50,), max_iter=40, random_state=0))
    began = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - began
    found[name] = model.predict_proba(X_test)
    print(f"{name:12}  {seconds:.2f} s  accuracy {model.score(X_test, y_test):.4f}")

difference = np.abs(found["ffnn_gpu"] - found["scikit-learn"]).max()
print(f"largest difference of a probability: {difference:.1e}")

# %% What only this class has
# Dropout, AdamW and a schedule are parameters.

mine = MLPClassifier(
    (50,),
    dropout=0.2,
    solver="adamw",
    learning_rate="cosine",
    learning_rate_init=0.01,
    max_iter=40,
    random_state=0,
)
accuracy = make_pipeline(StandardScaler(), mine).fit(X, y).score(X_test, y_test)
print(f"with dropout, AdamW and a cosine as the learning rate: accuracy {accuracy:.4f}")

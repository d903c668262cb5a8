"""What callers pass as X and y → arrays of the host, and results → the caller's kind of array."""

from typing import Any

import numpy as np
from sklearn.base import is_regressor
from sklearn.utils.validation import validate_data


class Inputs:
    """Reads X and y for one estimator, with scikit-learn's checks and errors."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def training(self, X: Any, y: Any, first: bool) -> tuple[Any, Any]:
        """Return rows and raw targets. first: learn the number and the names of the columns."""
        return validate_data(
            self.estimator,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=is_regressor(self.estimator),
            dtype=(np.float64, np.float32),
            reset=first,
        )

    def validation(self, X: Any, y: Any) -> tuple[Any, Any]:
        return self.training(X, y, False)

    def prediction(self, X: Any) -> Any:
        return validate_data(self.estimator, X, accept_sparse=["csr", "csc"], reset=False)

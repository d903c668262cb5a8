"""A grid search on a table with categories, missing cells and two classes of unequal size.

    python3 examples/grid_search_on_a_table.py

The estimator encodes the columns itself, on the training rows of each fold: numbers are standardized,
categories become columns of 0 and 1, and a missing cell has a column of its own. The table is made up: nobody
with a long contract leaves, unless the price is high.
"""

import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, train_test_split

from ffnn_gpu import MLPClassifier

# %% The table


def customers(rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table of customers, and who left."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "contract": random.choice(["month", "year", "two years"], rows, p=[0.5, 0.3, 0.2]),
            "city": random.choice(["Oslo", "Rome", "Lima", "Cairo"], rows),
            "price": random.normal(60, 20, rows).round(2),
            "calls": random.poisson(2, rows).astype(float),
        }
    )
    price, monthly = table["price"].to_numpy(), (table["contract"] == "month").to_numpy()
    left = (monthly & (price + 10 * table["calls"].to_numpy() > 90)) | (price > 100)
    table.loc[random.random(rows) < 0.1, "calls"] = np.nan
    table.loc[random.random(rows) < 0.05, "city"] = None
    return table, np.where(left, "left", "stayed")


# %% The search
# The estimator is fitted on the raw frame in every fold, so the encoding learns nothing of the other rows.

X, y = customers(600)
X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
search = GridSearchCV(
    MLPClassifier((32,), learning_rate_init=0.02, early_stopping=True, random_state=0),
    {"dropout": [0.0, 0.2], "class_weight": [None, "balanced"]},
    scoring="balanced_accuracy",
    cv=3,
)
search.fit(X, y)
# %% The result

print(f"{np.mean(y == 'left'):.0%} of the customers left")
print(f"best settings: {search.best_params_}, balanced accuracy in the search {search.best_score_:.3f}")
print(f"balanced accuracy on the test set: {search.score(X_test, y_test):.3f}")
print(f"columns of the table: {', '.join(search.best_estimator_.feature_names_in_)}")

"""Raw rows → labels, probabilities or numbers.

model          a network with its standardization, columns, task and labels
inputs         how the columns of raw rows become the matrix that the network reads
task           what the targets mean: classes, several labels, numbers
settings       every setting of a training run
training_data  a table and settings → targets, kinds and roles of its columns
split          training, validation and test rows
recipe         settings → network, optimizer and training
model_choice   one network or an ensemble
arguments      what a Python caller passes
wording        messages in the words of the caller
train_table    all of these in one call
tuning         the search for better settings
scikit_learn   MLPClassifier and MLPRegressor, with scikit-learn's interface
tabular        TabularClassifier and TabularRegressor: ensembles for tables
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ffnn_gpu.errors import ConfigurationError

# name → module of what needs scikit-learn, and is imported when it is first asked for
WITH_SCIKIT_LEARN = {
    "MLPClassifier": "scikit_learn.classifier",
    "MLPRegressor": "scikit_learn.regressor",
    "TabularClassifier": "tabular.classifier",
    "TabularRegressor": "tabular.regressor",
}

if TYPE_CHECKING:
    from ffnn_gpu.estimators.scikit_learn.classifier import MLPClassifier as MLPClassifier
    from ffnn_gpu.estimators.scikit_learn.regressor import MLPRegressor as MLPRegressor
    from ffnn_gpu.estimators.tabular.classifier import TabularClassifier as TabularClassifier
    from ffnn_gpu.estimators.tabular.regressor import TabularRegressor as TabularRegressor

else:

    def __getattr__(name: str) -> Any:
        """Import an estimator, which needs scikit-learn."""
        if name not in WITH_SCIKIT_LEARN:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(import_module(f"{__name__}.{WITH_SCIKIT_LEARN[name]}"), name)
        except ImportError as error:
            raise ConfigurationError(
                f'{name} needs scikit-learn: pip install "ffnn_gpu[sklearn]" ({error})'
            ) from error

"""Optuna, imported when it is first used: it takes a second, and is optional."""

from typing import Any

from ffnn_gpu.errors import ConfigurationError


def optuna() -> Any:
    """Return the module. Raises ConfigurationError if it is not installed."""
    try:
        import optuna as package
    except ImportError as error:
        raise ConfigurationError(f'tuning needs Optuna: pip install "ffnn_gpu[tune]" ({error})') from error
    return package

"""A network, or a training run, ↔ files that are always whole."""

"""The loss and metrics of a network on data."""

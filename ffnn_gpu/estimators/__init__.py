"""A model: a network with everything needed to go from raw rows to answers."""

"""Write a network or a training run to one file in one step, and read it."""

"""What Numba compiles for the CPU at hand: loops, and whole training steps made of them. The extra `fast` installs it."""

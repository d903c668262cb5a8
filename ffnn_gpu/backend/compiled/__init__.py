"""What Numba compiles for the CPU at hand: loops, and whole training steps made of them. The extra `fast` installs it."""

from ffnn_gpu.backend.compiled.kept import forget_others

forget_others()  # before anything asks for what was kept

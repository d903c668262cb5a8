"""The command `ffnn-gpu`: `commands` defines it; the other files are imported by the commands that need them."""

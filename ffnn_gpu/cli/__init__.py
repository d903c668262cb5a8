"""The command `ffnn-gpu`: `commands` defines it and imports each other file only where it is needed."""

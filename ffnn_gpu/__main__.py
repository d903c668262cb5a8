"""`python -m ffnn_gpu` is `ffnn-gpu`."""

from ffnn_gpu.cli.commands import main

if __name__ == "__main__":
    main()

"""Run the command `ffnn-gpu` by `python -m ffnn_gpu`."""

from ffnn_gpu.cli.commands import main

if __name__ == "__main__":
    main()

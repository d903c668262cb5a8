"""The modules of `scripts/benchmark.py`: jobs, one file per library, child processes, report and page."""

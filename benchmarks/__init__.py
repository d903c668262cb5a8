"""What `scripts/benchmark.py` runs: the jobs, one file per library that does them, the child processes, the report."""

"""Read, type and encode a mixed table with ffnn_gpu, pandas + scikit-learn and Polars, side by side.

    python scripts/benchmark_tables.py [--rows 1000000] [--rounds 3] [--json FILE]

The table has 12 columns of numbers, one of them with missing cells, 6 of categories with 2 to 400 levels, one
of booleans and one of dates. Each contender reads the same CSV file in a process of its own, in turn, on all
cores, and makes a float32 matrix: numbers scaled, up to 32 levels one-hot, more of them as codes. Printed are
the median seconds from the file to the matrix, the processor time, and the largest memory of the process.

    --json FILE     write the numbers, the machine, its load at the beginning and the date to FILE
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import launcher
from benchmarks.jobs import Job

LIBRARIES = ("duckdb", "numpy", "pandas", "polars", "scikit-learn")
NUMBERS = [f"x{k}" for k in range(12)]
LEVELS = {"k2": 2, "k3": 3, "k5": 5, "k10": 10, "k20": 20, "k400": 400}
ONE_HOT = [name for name, levels in LEVELS.items() if levels <= 32]
CODED = [name for name, levels in LEVELS.items() if levels > 32]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        measure(*options.worker)
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write_table(path, options.rows)
        found: dict[str, list[dict]] = {name: [] for name in CONTENDERS}
        for _ in range(options.rounds):
            for name in CONTENDERS:
                words = [sys.executable, __file__, "--worker", name, str(path)]
                done = subprocess.run(words, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(f"{name} failed:\n{done.stderr}")
                found[name].append(json.loads(done.stdout))
    rows = {
        name: {
            key: statistics.median(each[key] for each in runs)
            for key in ("seconds", "processor_seconds", "megabytes")
        }
        for name, runs in found.items()
    }
    for name, row in rows.items():
        print(
            f"{name:24} {row['seconds']:7.2f} s {row['processor_seconds']:7.2f} s of processor time "
            f"{row['megabytes']:8.0f} MB"
        )
    if options.json:
        machine = launcher.machine(Job("limits", (1, 1), 1))
        machine["packages"] = {name: version(name) for name in LIBRARIES}
        result = {"schema": 1, "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine}
        result |= {"load": load, "rows": options.rows, "rounds": options.rounds}
        result |= {"medians": rows, "runs": found}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def write_table(path: Path, n: int) -> None:
    """Write the same table for the same n."""
    rng = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8") as file:
        file.write(",".join([*NUMBERS, *LEVELS, "flag", "day"]) + "\n")
        for start in range(0, n, 10_000):
            m = min(10_000, n - start)
            columns = [rng.normal(50, 10, m).round(4).astype(str) for _ in NUMBERS]
            columns[0][rng.random(m) < 0.05] = ""
            columns += [
                np.char.add("level ", rng.integers(0, levels, m).astype(str)) for levels in LEVELS.values()
            ]
            columns += [
                rng.choice(["yes", "no"], m),
                (np.datetime64("2020-01-01") + rng.integers(0, 1000, m)).astype(str),
            ]
            file.writelines(",".join(row) + "\n" for row in zip(*columns, strict=True))


def measure(name: str, path: str) -> None:
    began, used = time.perf_counter(), time.process_time()
    matrix = CONTENDERS[name](path)
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shape = [int(size) for size in matrix.shape]
    found = {"seconds": seconds, "processor_seconds": processor, "megabytes": kilobytes / 1024}
    print(json.dumps(found | {"shape": shape}))


def with_ffnn_gpu(path: str) -> np.ndarray:
    from ffnn_gpu.tables.decisions import Decisions
    from ffnn_gpu.tables.encoding import Encoding
    from ffnn_gpu.tables.kinds import columns_of
    from ffnn_gpu.tables.sources import read_table
    from ffnn_gpu.tables.spelling import Spelling

    table = read_table(path)
    columns = columns_of(table, Decisions(), Spelling(table.decimal))
    return Encoding.fit(table, columns, np.arange(len(table))).encode(table)


def with_pandas(path: str) -> np.ndarray:
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, RobustScaler

    frame = pd.read_csv(path, parse_dates=["day"], dtype=dict.fromkeys([*LEVELS, "flag"], "category"))
    frame["day"] = frame["day"].astype("int64")
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), RobustScaler())
    encoder = ColumnTransformer(
        [
            ("numbers", numbers, [*NUMBERS, "day"]),
            ("levels", OneHotEncoder(sparse_output=False, dtype=np.float32), [*ONE_HOT, "flag"]),
            ("codes", OrdinalEncoder(dtype=np.float32), CODED),
        ]
    )
    return encoder.fit_transform(frame).astype(np.float32)


def with_polars(path: str) -> np.ndarray:
    import polars as pl

    frame = pl.read_csv(path, try_parse_dates=True)
    scaled = [
        (pl.col(name).fill_null(pl.col(name).median()) - pl.col(name).median())
        / (pl.col(name).quantile(0.75) - pl.col(name).quantile(0.25))
        for name in NUMBERS
    ]
    coded = [pl.col(name).rank("dense").cast(pl.Float32) for name in CODED]
    lacking = [pl.col(NUMBERS[0]).is_null().cast(pl.Float32).alias("missing")]
    day = [pl.col("day").to_physical().cast(pl.Float32)]
    levels = frame.select([*ONE_HOT, "flag"]).to_dummies()
    numbers = frame.select([*scaled, *lacking, *day, *coded])
    return pl.concat([numbers, levels], how="horizontal").cast(pl.Float32).to_numpy()


CONTENDERS = {"ffnn_gpu": with_ffnn_gpu, "pandas + scikit-learn": with_pandas, "Polars": with_polars}

if __name__ == "__main__":
    main()

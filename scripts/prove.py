"""`python3 scripts/prove.py`: check every promise of docs/promises.md.

    --only NAME,NAME   run these proofs, default all: tests, bugs, fills, mutation, kills, damage, disk,
                       fuzz, payloads, resume, signals, tables, alarms, sass
    --json FILE        write the table with its details, such as which test caught which bug
    --seed N           seed of every random choice
    --kills N --mutants N --signals N --examples N --jobs N    counts of each proof, and parallel processes

The table goes to standard output, progress to standard error. All proofs take half an hour on two cores.
The exit code is 0 if every promise holds, 1 if one fails, and 2 if none fails but time ran out for one.
"""

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
NEEDED = ("ffnn_gpu", "pytest", "hypothesis", "cosmic_ray", "ml_dtypes")

if __name__ == "__main__" and any(importlib.util.find_spec(name) is None for name in NEEDED):
    from bootstrap import restart  # a fresh clone: make .venv first, then start again in it

    sys.exit(restart(__file__, "prove"))

from proofs import Figure, Settings  # noqa: E402

PROOFS = {
    "tests": "proofs.promised", "bugs": "proofs.bugs", "fills": "proofs.fills",
    "mutation": "proofs.mutation", "kills": "proofs.kills", "damage": "proofs.damage",
    "disk": "proofs.full_disk", "fuzz": "proofs.fuzz", "payloads": "proofs.payloads",
    "resume": "proofs.resume", "signals": "proofs.signals", "tables": "proofs.tables",
    "alarms": "proofs.false_alarms", "sass": "proofs.sass",
}  # fmt: skip
WIDTH = 76  # characters of a promise in the table
COUNTS = ("seed", "kills", "mutants", "signals", "examples", "jobs")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    counts = {name: getattr(options, name) for name in COUNTS}
    figures: list[Figure] = []
    for name in options.only:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="ffnn-gpu-") as scratch:
            figures += outcome(name, Settings(Path(scratch), **counts, say=say))
        say(f"{name}: {time.perf_counter() - began:.0f} s")
    print("\n".join(table(figures)))
    if options.json:
        rows = [asdict(figure) | {"outcome": figure.outcome} for figure in figures]
        options.json.write_text(json.dumps({"settings": counts, "figures": rows}, indent=1), encoding="utf-8")
    return exit_code(figures)


def exit_code(figures: list[Figure]) -> int:
    """Return 1 if a promise fails, 2 if there is no verdict on one, else 0."""
    outcomes = {figure.outcome for figure in figures}
    return 1 if "FAILS" in outcomes else 2 if "no verdict" in outcomes else 0


def outcome(name: str, settings: Settings) -> list[Figure]:
    """Return the figures of one proof; an exception counts as a failure and does not stop the others.

    A process that does not end in time gives no verdict, because this machine may be busy.
    """
    try:
        return importlib.import_module(PROOFS[name]).prove(settings)
    except subprocess.TimeoutExpired as error:
        return [Figure(f"the proof {name!r} runs", f"no verdict: no end after {error.timeout:.0f} s", None)]
    except Exception as error:
        return [Figure(f"the proof {name!r} runs", f"{type(error).__name__}: {error}", False)]


def table(figures: list[Figure]) -> list[str]:
    """Return lines with the columns promise, figure, outcome, and under a failing row its details."""
    wide = max(len(figure.figure) for figure in figures)
    lines = []
    for figure in figures:
        first, *rest = textwrap.wrap(figure.promise, WIDTH, subsequent_indent="  ")
        lines += [f"{first:{WIDTH}}  {figure.figure:{wide}}  {figure.outcome}", *rest]
        if figure.holds is False:
            lines += [f"    {detail}" for detail in figure.details]
    return lines


def parse(arguments: list[str] | None) -> argparse.Namespace:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[*PROOFS])
    parser.add_argument("--json", type=Path)
    for name in COUNTS:
        default = os.cpu_count() if name == "jobs" else getattr(Settings, name)
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(arguments)
    strangers = set(options.only) - set(PROOFS)
    if strangers:
        parser.error(f"--only: unknown proof {', '.join(sorted(strangers))}; choose from {', '.join(PROOFS)}")
    return options


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

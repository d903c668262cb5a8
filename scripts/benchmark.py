"""`python scripts/benchmark.py`: measure the same work in ffnn_gpu and in other libraries, side by side.

    --device cpu|cuda            default cpu
    --precision NAME             on cuda bfloat16 (default), tf32 or float32; on cpu float32
    --networks TEXT,TEXT         only jobs whose title contains one of these, such as "train 784-128-10"
    --peers NAME,NAME            only these libraries beside ffnn_gpu; "" for none
    --check                      measure nothing; check that all contenders compute the same values
    --parallel                   measure 1, 2 and 4 ranks started by mpiexec, and predict larger machines
    --kinds [NAME,NAME]          measure one step of each kind in benchmarks/kinds.py, such as "gelu,batch 1",
                                 alone and beside a program that computes; with --check, compare the losses
    --quick                      the smallest job of each kind, short rounds, no torch.compile, no file

Each contender runs in its own process on random data on the device, from equal weights, with the same number
of threads. Contenders take turns in rounds; the table shows the median and the interquartile range of the
rounds. The result is written to benchmarks/results/, one file per machine, commit and precision. Libraries
that are not installed are named.
"""

import argparse
import json
import math
import os
import re
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

try:
    import ffnn_gpu  # noqa: F401
    from benchmarks import kinds, launcher, parallel, report, worker
    from benchmarks.contenders import CONTENDERS, contenders
    from benchmarks.jobs import Job, jobs
except ImportError:  # a fresh clone: make .venv first, then start again in it
    from bootstrap import restart

    sys.exit(restart(__file__))

PRECISIONS = {"cpu": ("float32",), "cuda": ("bfloat16", "tf32", "float32")}
# Of --check, relative to the largest value. Also in float64 torch.compile rounds some constants to float32.
TOLERANCE = {
    "float64": 1e-4, "float32": 1e-4, "tf32": 1e-2, "float16": 1e-2, "bfloat16": 5e-2,
}  # fmt: skip
CHECK_RATE = 1e-3  # learning rate of --check, at which a wrong gradient shows in the loss


def options(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=PRECISIONS, default="cpu")
    parser.add_argument("--precision")
    parser.add_argument("--networks", type=names, default=[""])
    parser.add_argument("--peers", type=names)
    parser.add_argument(
        "--threads", type=int, default=cores(), help="threads of every contender, default all cores"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each contender, default 7, with --kinds 5")
    parser.add_argument(
        "--seconds", type=float, help="duration of a round, default 0.3; with --kinds of a kind, default 2"
    )
    parser.add_argument("--data", help="folder of IDX files for the epoch, default random bytes")
    parser.add_argument("--json", type=Path, help="the file to write")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--parallel", action="store_true")
    parser.add_argument("--kinds", nargs="?", const="", type=kinds_named, metavar="NAME,NAME")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    args.precision = args.precision or PRECISIONS[args.device][0]
    if args.precision not in PRECISIONS[args.device]:
        parser.error(
            f"--precision {args.precision} on {args.device}: choose {' or '.join(PRECISIONS[args.device])}"
        )
    strangers = set(args.peers or ()) - set(CONTENDERS) - {""}
    if strangers:
        parser.error(f"--peers: unknown {', '.join(sorted(strangers))}; choose from {', '.join(CONTENDERS)}")
    if args.kinds and args.device != "cpu":
        parser.error("--kinds measures on a CPU; leave out --device")
    args.rounds = args.rounds or (2 if args.quick else 5 if args.kinds else 7)
    args.seconds = args.seconds or (0.02 if args.quick else 2 if args.kinds else 0.3)
    return args


def kinds_named(text):
    """Return the kinds of step with these names, or all for ""."""
    unknown = set(names(text)) - set(kinds.KINDS) - {""}
    if unknown:
        known = f"choose from {', '.join(kinds.KINDS)}"
        raise argparse.ArgumentTypeError(f"unknown kind {', '.join(sorted(unknown))}; {known}")
    return [kind for name, kind in kinds.KINDS.items() if not text or name in names(text)]


def names(text):
    return [part.strip() for part in text.split(",")]


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chosen(args):
    """Return a function name → bool: does it take part? Our contenders and `products` always do."""

    def takes_part(name):
        if report.ours(name) or name == "products":
            return True
        return name in args.peers if args.peers is not None else not (args.quick and name == "torch-compile")

    return takes_part


def selected(args):
    """Return the jobs that --networks or --kinds chooses."""
    if args.kinds:
        return [replace(kind, threads=args.threads) for kind in args.kinds]
    every = jobs(args.device, args.quick, precision=args.precision, threads=args.threads, data=args.data)
    return [job for job in every if any(text in job.title for text in args.networks)]


def measured(args, machine, probe):
    """Measure all jobs. Print and write after each one, so that an interrupted run keeps its figures."""
    settings = {
        name: getattr(args, name) for name in ("device", "precision", "threads", "rounds", "seconds", "quick")
    }
    result = {"schema": 1, "date": datetime.now(UTC).isoformat(timespec="seconds"), "settings": settings}
    result |= {"machine": machine, "limits": limits(probe) if args.device == "cuda" else None, "groups": []}
    path = args.json or (None if args.quick else results_file(result))
    measurements = [
        lambda job=job: launcher.measure(job, chosen(args), args.rounds, args.seconds)
        for job in selected(args)
    ]
    if any(text in "import" for text in args.networks):
        measurements.append(lambda: launcher.imports(chosen(args), args.threads, args.rounds))
    for measurement in measurements:
        group = report.summarized(measurement(), result["limits"])
        print(report.table(group), end="\n\n", flush=True)
        result["groups"].append(group)
        result["means"] = report.means(result["groups"])
        write(result, path)
    print(*report.mean_lines(result["means"]), *([f"written to {path}"] if path else []), sep="\n")
    return result


def write(result, path):
    """Write the result as JSON; nothing if path is None."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def of_kinds(args, machine):
    """Measure one step of each kind. A line for each goes to stderr, the tables to stdout at the end."""
    settings = {name: getattr(args, name) for name in ("device", "threads", "rounds", "seconds", "quick")}
    named = [kind.name for kind in args.kinds]
    settings |= {"precision": "kinds", "kinds": "all" if named == [*kinds.KINDS] else named}
    result = {"schema": 1, "date": datetime.now(UTC).isoformat(timespec="seconds"), "settings": settings}
    result |= {"machine": machine, "limits": None, "groups": []}
    path = args.json or (None if args.quick else results_file(result))
    chosen_kinds = selected(args)
    for number, kind in enumerate(chosen_kinds, start=1):
        began = time.perf_counter()
        found = launcher.measure_kind(kind, chosen(args), args.rounds, args.seconds)
        groups = [report.summarized(group) for group in found]
        line = f"{report.ratios_of(groups)}   {time.perf_counter() - began:.0f} s"
        print(f"{number}/{len(chosen_kinds)} {kind.name}: {line}", file=sys.stderr, flush=True)
        result["groups"] += groups
        result["means"] = report.means(result["groups"])
        write(result, path)
    print(*map(report.table, result["groups"]), sep="\n\n", end="\n\n")
    print(*report.mean_lines(result["means"]), *([f"written to {path}"] if path else []), sep="\n")
    return 0


def of_ranks(args, machine):
    """Measure ranks with benchmarks/parallel.py; print and write the result."""
    settings = {"device": "cpu", "precision": "float32-parallel", "threads": 1, "quick": args.quick}
    result = {
        "schema": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": settings,
        "machine": machine,
    }
    try:
        result |= parallel.measured(args.quick, cores())
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    print(parallel.report(result))
    write(result, args.json or (None if args.quick else results_file(result)))
    return 0


def limits(probe):
    """Measure {"flop_per_second", "bytes_per_second"} of the device; if that fails, print why."""
    found = launcher.values("products", probe)
    if "missing" in found:
        print(
            f"no floor is shown: the device's limits cannot be measured: {found['missing']}", file=sys.stderr
        )
        return None
    rates = found["values"][0]
    print("measured: {flop_per_second:.3g} FLOP/s, {bytes_per_second:.3g} bytes/s\n".format(**rates))
    return rates


def results_file(result):
    """Return benchmarks/results/<machine>-<commit>-<precision>.json."""
    machine = result["machine"]
    words = [machine.get("gpu") or machine.get("processor"), (machine.get("commit") or "no-commit")[:10]]
    slug = re.sub(
        r"[^a-z0-9]+", "-", "-".join([*map(str, words), result["settings"]["precision"]]).lower()
    ).strip("-")
    return ROOT / "benchmarks" / "results" / f"{slug}.json"


def checked(args):
    """Compare the losses or outputs of all installed contenders for each job; return 0 if they agree."""
    failures = 0
    for job in selected(args):
        if args.kinds and job.precision == "float32":  # rounding would move a ReLU of 32 layers over its kink
            job = replace(job, precision="float64")
        if job.kind == "epoch" or getattr(job, "random", False):
            continue  # each library shuffles and drops out differently
        values = {}
        for name in filter(chosen(args), contenders(args.device, job.kind)):
            if name == "products":
                continue
            answer = launcher.values(name, replace(job, lr=CHECK_RATE, **({} if args.kinds else {"K": 1})))
            if "missing" in answer:
                print(f"{job.title}: {name} — {answer['missing']}")
            else:
                values[name] = normalized(answer["values"]) if job.kind == "predict" else answer["values"]
        wrong = (
            report.disagreements(values, TOLERANCE[job.precision])
            if values
            else ["no contender is installed"]
        )
        failures += len(wrong)
        for text in wrong or [f"{', '.join(values)} agree"]:
            print(f"{job.title}: {text}")
    return 1 if failures else 0


def normalized(outputs):
    """Return log softmax of every row, because scikit-learn returns probabilities and the others logits."""

    def of_row(row):
        total = max(row) + math.log(sum(math.exp(z - max(row)) for z in row))
        return [z - total for z in row]

    return [[of_row(row) for row in rows] for rows in outputs]


def serve(task):
    """Run as a child process of the launcher."""
    found = task["job"]
    if found["kind"] == kinds.QUIET:
        job = kinds.from_json(found)
    else:
        job = Job(**found | {"widths": tuple(found["widths"])})
    if task["name"] == "machine":
        print(json.dumps(worker.machine(job.device)))
    else:
        worker.work(task["name"], job, task["seconds"], task["check"])
    return 0


def main(arguments=None):
    args = options(arguments)
    if args.worker:
        return serve(json.loads(args.worker))
    probe = Job("limits", (1, 1), 1, device=args.device, precision=args.precision, threads=args.threads)
    machine = launcher.machine(probe)
    if args.device == "cuda" and not machine.get("device"):
        print(f"error: no GPU can be used: {machine.get('reason', machine)}", file=sys.stderr)
        return 2
    if args.check:
        return checked(args)
    if args.parallel:
        return of_ranks(args, machine)
    if args.kinds:
        return of_kinds(args, machine)
    measured(args, machine, probe)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python scripts/gpu_check.py --out DIR`: test the GPU path on this machine and write a report.

DIR receives gpu_check.json (GPU, driver, CUDA, versions, commit; outcome, seconds and figures of each step),
gpu_check.xml (JUnit) and gpu_check.log (the output of the steps). The steps, in order:

    wheels     with --wheels: install the packages of a folder that this machine lacks; needs no network
    machine    the GPU and its software; without a usable GPU the check ends here, with exit code 2, and if
               the package cannot be imported, with exit code 1
    quick      2 minutes: cublasLt, a training step of each kind, graphs, the time of every operation
    parity     every test marked gpu; a skip for a missing GPU or an undocumented reason is a failure
    sanitizer  memcheck and racecheck of the kernels, if compute-sanitizer is installed and supports the GPU
    benchmark  scripts/benchmark.py --device cuda, with --networks only some of it
    mnist      with --mnist: scripts/train_mnist.py in float32 and bfloat16
    tables     ffnn-gpu train on a table, on the GPU and on the CPU: equal accuracy up to 2 %

A failing step does not stop the later ones. Exit code 0: every chosen step passed; 1: a step failed. A call
ends after 9 minutes, or after --minutes. For a short visit, make several calls with --only and an --out of
their own; scripts/gpu_report.py merges their reports.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import gpu_steps
from gpu_run import ROOT, Check, FinalError, NoGpuError, StepError

FIRST, PROOFS = ("wheels", "machine"), ("quick", "parity", "sanitizer", "benchmark", "mnist", "tables")
STEPS = FIRST + PROOFS
GOOD = ("passed", "not installed", "unsupported here")


def main(arguments=None):
    options = parse(arguments)
    if not options.wheels:
        require_package()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the running step too
    options.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as scratch:
        folders = options.out.resolve(), Path(scratch)
        check = Check(*folders, deadline, options.wheels, options.mnist, options.networks)
        for ending in ("json", "xml", "log"):  # of an earlier run
            (check.out / f"gpu_check.{ending}").unlink(missing_ok=True)
        try:
            report = prove(check, chosen(options))
        except NoGpuError as error:
            say(f"gpu_check found no GPU to test: {error}")
            return 2
    print(table(report["steps"]))
    return 0 if report["green"] else 1


def parse(arguments):
    def step(names):
        unknown = sorted(set(names.split(",")) - set(PROOFS))
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown steps {unknown}; choose from {', '.join(PROOFS)}")
        return names.split(",")

    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the report")
    parser.add_argument("--wheels", type=folder, metavar="DIR", help="folder of wheels to install from")
    parser.add_argument("--mnist", type=folder, metavar="DIR", help="folder of MNIST's four files")
    parser.add_argument("--networks", metavar="TEXT,TEXT", help="titles of benchmarks to run, default all")
    parser.add_argument(
        "--minutes", type=float, default=9, help="time after which the check stops, default 9"
    )
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--only", type=step, default=PROOFS, metavar="A,B", help="steps to run, from quick on")
    some.add_argument(
        "--skip", type=step, default=[], metavar="A,B", help="steps to leave out, from quick on"
    )
    return parser.parse_args(arguments)


def folder(name):
    """Return the full path of an existing folder, because the steps run in another folder."""
    if not Path(name).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {name}")
    return Path(name).resolve()


def require_package():
    """Restart in .venv if this Python lacks the package's dependencies, as in a fresh clone."""
    sys.path.insert(0, str(ROOT))
    try:
        import ffnn_gpu  # noqa: F401
    except ImportError:
        from bootstrap import restart

        sys.exit(restart(__file__, "test"))


def chosen(options):
    """Return the names of the steps to run, in order."""
    given = {"wheels": options.wheels, "mnist": options.mnist}
    asked = [name for name in STEPS if name in (*FIRST, *options.only) and name not in options.skip]
    return [name for name in asked if given.get(name, True)]


def prove(check, names):
    """Run the steps and write the report after each one. Raises NoGpuError, and then leaves no report."""
    began, steps = time.monotonic(), {name: {"outcome": "not run"} for name in STEPS}
    report = {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "green": False,
        "steps": steps,
    }
    for name in names:
        say(f"{name} … (its output: {check.log})")
        steps[name] = attempt(getattr(gpu_steps, name), check)
        say(f"{name}: {sentence(steps[name])}, {steps[name]['seconds']} s")
        report["seconds"] = round(time.monotonic() - began, 1)
        report["green"] = all(steps[name]["outcome"] in GOOD for name in names)
        (check.out / "gpu_check.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if steps[name].pop("final", False):
            break
    return report


def attempt(step, check):
    """Return {"outcome", "seconds", "why" (if the step failed), and the results of the step}."""
    began = time.monotonic()
    try:
        found = {"outcome": "passed"} | step(check)
    except NoGpuError:
        raise
    except StepError as error:
        found = {"outcome": "failed", "why": str(error)} | error.found
        found |= {"final": True} if isinstance(error, FinalError) else {}
    except Exception as error:  # such as a full disk: the later steps still run
        found = {"outcome": "failed", "why": f"{type(error).__name__}: {error}"}
    return {"outcome": found.pop("outcome"), "seconds": round(time.monotonic() - began, 1)} | found


def commit():
    """Return the tested commit, with "+changes" if the work tree differs; None outside a clone."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    except OSError:  # no git
        return None
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def sentence(step):
    """Return the outcome of a step, and the reason of a failure."""
    return f"{step['outcome']}: {step['why']}" if "why" in step else step["outcome"]


def table(steps):
    """Return the printed table, one line per step."""
    return "\n".join(
        f"{name:<10} {step.get('seconds', 0):>7.1f} s  {sentence(step)}" for name, step in steps.items()
    )


def say(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

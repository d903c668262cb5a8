"""`python scripts/gpu_check.py --out DIR`: prove the GPU path on this machine, and write down what was found on what.

DIR gets gpu_check.json (GPU, driver, CUDA, versions, commit, and for each step its outcome, seconds and figures),
gpu_check.xml (JUnit) and gpu_check.log (what the steps printed). The steps, in order:

    wheels     where --wheels names a folder: what of it this machine lacks is installed; no network is needed
    machine    the GPU and its software; without a usable GPU the check ends here, with exit code 2
    parity     every test marked gpu, where a skip for want of a GPU is a failure, and so is any undocumented skip
    sanitizer  memcheck and racecheck of the kernels, where compute-sanitizer is installed
    benchmark  scripts/benchmark.py --device cuda
    mnist      where --mnist names a folder: scripts/train_mnist.py in float32 and bfloat16

A step that fails does not stop the later ones. Exit code 0: every step that was to run passed; 1: one did not.
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
from gpu_run import ROOT, Check, NoGpuError, StepError

FIRST, PROOFS = ("wheels", "machine"), ("parity", "sanitizer", "benchmark", "mnist")
STEPS = FIRST + PROOFS


def main(arguments=None):
    options = parse(arguments)
    if not options.wheels:
        require_package()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end the step that runs on the way out
    options.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as scratch:
        check = Check(options.out.resolve(), Path(scratch), deadline, options.wheels, options.mnist)
        for ending in ("json", "xml", "log"):  # those of an earlier run would pass for this one's
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
            raise argparse.ArgumentTypeError(f"{unknown} cannot be chosen; there are {', '.join(PROOFS)}")
        return names.split(",")

    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the report goes")
    parser.add_argument(
        "--wheels", type=folder, metavar="DIR", help="packages to install what is missing from"
    )
    parser.add_argument("--mnist", type=folder, metavar="DIR", help="MNIST's four files")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="what still runs then is stopped")
    some = parser.add_mutually_exclusive_group()
    some.add_argument(
        "--only", type=step, default=PROOFS, metavar="A,B", help="of the steps from parity on, these"
    )
    some.add_argument("--skip", type=step, default=[], metavar="A,B", help="of them, all but these")
    return parser.parse_args(arguments)


def folder(name):
    """An existing folder, by its full path: the steps run elsewhere."""
    if not Path(name).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {name}")
    return Path(name).resolve()


def require_package():
    """Start again in a .venv where this Python lacks the package's libraries: a fresh clone, with a network."""
    sys.path.insert(0, str(ROOT))
    try:
        import ffnn_gpu  # noqa: F401
    except ImportError:
        from bootstrap import restart

        sys.exit(restart(__file__, "test"))


def chosen(options):
    """The steps to run, in order."""
    given = {"wheels": options.wheels, "mnist": options.mnist}
    asked = [name for name in STEPS if name in (*FIRST, *options.only) and name not in options.skip]
    return [name for name in asked if given.get(name, True)]


def prove(check, names):
    """The report, which is on the disk as far as it goes after every step. Raises NoGpuError, and leaves no report then."""
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
        report["green"] = all(steps[name]["outcome"] in ("passed", "not installed") for name in names)
        (check.out / "gpu_check.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def attempt(step, check):
    """{"outcome": …, "seconds": …, "why": … where it failed, and what the step found}."""
    began = time.monotonic()
    try:
        found = {"outcome": "passed"} | step(check)
    except NoGpuError:
        raise
    except StepError as error:
        found = {"outcome": "failed", "why": str(error)} | error.found
    except (
        Exception
    ) as error:  # a report in another shape, a full disk: the later steps may still tell something
        found = {"outcome": "failed", "why": f"{type(error).__name__}: {error}"}
    return {"outcome": found.pop("outcome"), "seconds": round(time.monotonic() - began, 1)} | found


def commit():
    """The commit that was tested, with "+changes" if the tree differs from it; None outside a clone."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    except OSError:  # no git
        return None
    return (
        head.stdout.strip() + ("+changes" if status.stdout.strip() else "") if head.returncode == 0 else None
    )


def sentence(step):
    """The outcome of a step and why."""
    return f"{step['outcome']}: {step['why']}" if "why" in step else step["outcome"]


def table(steps):
    """One line for each step."""
    return "\n".join(
        f"{name:<10} {step.get('seconds', 0):>7.1f} s  {sentence(step)}" for name, step in steps.items()
    )


def say(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""`python scripts/gpu_report.py DIR…`: merge reports of gpu_check.py, measured beside predicted.

    --page FILE    the page to write, default docs/gpu_measured.md

Each DIR holds the gpu_check.json of one call. They must be of one commit and one GPU. If two calls ran the
same step, the later one counts; benchmarks of several calls are put together.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_model import timeline  # noqa: E402
from benchmarks.gpu_model.machine import H200  # noqa: E402
from benchmarks.gpu_model.networks import Case, record  # noqa: E402

PAGE = ROOT / "docs" / "gpu_measured.md"


def main(arguments=None):
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE")
    options = parser.parse_args(arguments)
    reports = [
        json.loads((folder / "gpu_check.json").read_text(encoding="utf-8")) for folder in options.folders
    ]
    options.page.write_text(page(merged(reports)), encoding="utf-8")
    return 0


def merged(reports):
    """Return one report with the latest outcome of every step. Exit if they do not belong together."""
    reports = sorted(reports, key=lambda report: report["date"])
    for what, values in {
        "commits": {report["commit"] for report in reports},
        "GPUs": {report["steps"]["machine"].get("gpu") for report in reports},
    }.items():
        if len(values) > 1:
            sys.exit(f"the reports are of {len(values)} {what}: {', '.join(sorted(map(str, values)))}")
    steps, groups = {}, []
    for report in reports:
        ran = {name: step for name, step in report["steps"].items() if step["outcome"] != "not run"}
        groups += ran.get("benchmark", {}).get("figures", {}).get("groups", [])
        steps |= ran
    return {"commit": reports[-1]["commit"], "date": reports[-1]["date"], "steps": steps, "groups": groups}


def page(report):
    """Return the text of the page."""
    steps, machine = report["steps"], report["steps"]["machine"]
    facts = ("gpu", "compute_capability", "driver", "cuda", "python")
    lines = ["# Measured on a GPU", ""]
    lines += [f"- {name}: {machine[name]}" for name in facts if machine.get(name) is not None]
    lines += [
        f"- commit: {report['commit']}",
        f"- date: {report['date']}",
        "",
        "| step | outcome | seconds |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {step['outcome']}{reason(step)} | {step['seconds']} |" for name, step in steps.items()
    ]
    lines += section("Training steps", ("network", "batch", "type"), training(report["groups"]))
    lines += section(
        "Operations", ("operation", "rows, inputs, outputs", "type"), timed(steps.get("quick", {}))
    )
    return "\n".join(lines) + "\n"


def reason(step):
    return f": {step['why']}" if "why" in step else ""


def section(title, names, rows):
    """Return the lines of a table of measured and predicted microseconds; none without rows."""
    if not rows:
        return []
    head = [*names, "measured, µs", "predicted, µs", "measured / predicted"]
    lines = ["", f"## {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for *cells, measured, predicted in rows:
        numbers = f"{measured:.4g}", f"{predicted:.4g}", f"{measured / predicted:.2f}"
        lines.append(f"| {' | '.join([*map(str, cells), *numbers])} |")
    return lines


def training(groups):
    """Return (network, batch, type, measured, predicted) of each training step that was measured."""
    rows = []
    for group in groups:
        job, ours = group["job"], group["results"].get("ours", {})
        if group["kind"] == "train" and "median_us" in ours:
            tf32 = job["precision"] == "tf32"
            case = Case(tuple(job["widths"]), job["B"], "float32" if tf32 else job["precision"])
            graph, steps = record(case, tf32=tf32)
            predicted = 1e6 * timeline.seconds(graph, H200) / steps
            rows.append((case.title, case.B, job["precision"], ours["median_us"], predicted))
    return rows


def timed(quick):
    """Return (operation, size, type, measured, predicted), the farthest from its prediction first."""
    found = quick.get("operations", {}).get("operations", [])
    rows = [
        (
            each["operation"],
            " ".join(map(str, each["size"])),
            each["dtype"],
            each["microseconds"],
            each["predicted"],
        )
        for each in found
    ]
    return sorted(rows, key=lambda row: row[-1] / row[-2])


if __name__ == "__main__":
    sys.exit(main())

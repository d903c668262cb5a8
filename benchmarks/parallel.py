"""`scripts/benchmark.py --parallel`: measure 1, 2 and 4 ranks, fit the formulas, predict larger machines.

If there are more ranks than cores, their figures are marked as oversubscribed and not fitted.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import scaling_model as model
from benchmarks.launcher import ROOT, environment

RANKS = (1, 2, 4)
PREDICTED = (8192, 65536, 524288)  # batches
LIMIT = 280  # seconds for one number of ranks


def measured(quick, cores):
    """Return the contents of the JSON file except the machine.

    Raises:
        RuntimeError: ranks cannot be started.
    """
    runs = [{"ranks": n, "oversubscribed": n > cores} | of_ranks(n, quick) for n in RANKS]
    fair = [run for run in runs if not run["oversubscribed"]]
    sums = [(run["ranks"], size, seconds) for run in fair for size, seconds in run["sums"]]
    fitted = None
    if sums:
        alpha, beta = model.fitted_sum(sums)
        fitted = {
            "alpha": alpha,
            "beta": beta,
            "networks": [of_network(w, runs, alpha, beta) for w in networks(runs)],
        }
    predictions = [
        model.prediction(machine, widths, PREDICTED)
        for machine in model.MACHINES
        for widths in networks(runs)
    ]
    return {"measured": runs, "fitted": fitted, "predicted": predictions, "sources": list(model.SOURCES)}


def networks(runs):
    return list(dict.fromkeys(tuple(widths) for widths, *_ in runs[0]["steps"]))


def of_ranks(n, quick):
    """Measure {"sums", "steps"} with n ranks of one thread each."""
    mpiexec = shutil.which(
        "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    if mpiexec is None:
        raise RuntimeError('mpiexec is not installed: pip install "ffnn_gpu[mpi]" mpich')
    with tempfile.TemporaryDirectory(prefix="ffnn-gpu-") as folder:
        path = Path(folder) / "found.json"
        command = [mpiexec, "-n", str(n), sys.executable, "-m", "benchmarks.ranks"]
        command += ["quick" if quick else "whole", str(path)]
        one_thread = environment(1) | {"FFNN_GPU_THREADS": "1"}
        ended = subprocess.run(
            command, env=one_thread, cwd=ROOT, timeout=LIMIT, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise RuntimeError(f"{n} ranks ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
        return json.loads(path.read_text(encoding="utf-8"))


def of_network(widths, runs, alpha, beta):
    """Fit (c₀, c₁) to the steps of one rank, and to those of two ranks without their sums."""
    communication = sum(
        model.summed(2, size, alpha, beta) for size in (4 * model.parameters(widths), model.LOSS_BYTES)
    )
    one, two = ([(B, seconds) for w, B, seconds in run["steps"] if tuple(w) == widths] for run in runs[:2])
    alone = model.fitted_step(one)
    ranks = model.fitted_step([(B / 2, max(seconds - communication, seconds / 10)) for B, seconds in two])
    steps = [{"B": B, "two": model.step(2, B, *ranks, communication)} for B, _ in one]
    return {
        "widths": widths,
        "parameters": model.parameters(widths),
        "alone": alone,
        "ranks": ranks,
        "steps": steps,
        "communication": communication,
        "pays_from": model.pays_from(2, alone, ranks, communication),
    }


def report(found):
    """Return Markdown tables, measurements first, then predictions."""
    runs, fitted = found["measured"], found["fitted"]
    heads = [
        f"{r['ranks']} rank{'s' * (r['ranks'] > 1)}{' (oversubscribed)' * r['oversubscribed']}" for r in runs
    ]
    lines = [
        "Measured: all_reduce of float32, µs",
        "",
        *head("bytes", *heads[1:], *["2 by the formula"] * bool(fitted)),
    ]
    for k, (size, _) in enumerate(runs[1]["sums"]):
        formula = [micro(model.summed(2, size, fitted["alpha"], fitted["beta"]))] if fitted else []
        lines.append(row(f"{size:,}", *(micro(run["sums"][k][1]) for run in runs[1:]), *formula))
    if fitted:
        lines += constants(fitted)
    extra = ["2 by the formula", "sums of these", "pays from B"] if fitted else []
    lines += ["", "Measured: a step, µs; B is the global batch", "", *head("network", "B", *heads, *extra)]
    for k, (widths, B, _) in enumerate(runs[0]["steps"]):
        cells = [micro(run["steps"][k][2]) for run in runs]
        if fitted:
            network = next(network for network in fitted["networks"] if [*network["widths"]] == [*widths])
            two = next(step["two"] for step in network["steps"] if step["B"] == B)
            cells += [micro(two), micro(network["communication"]), many(network["pays_from"])]
        lines.append(row("-".join(map(str, widths)), f"{B:,}", *cells))
    return "\n".join([*lines, "", *predicted(found["predicted"])])


def constants(fitted):
    lines = ["", f"Fitted: α = {1e6 * fitted['alpha']:.3g} µs, β = {fitted['beta'] / 1e9:.3g} GB/s", ""]
    lines += head("network", "P", "c₀, µs", "c₁, µs", "c₀ of 2 ranks", "c₁ of 2 ranks")
    for network in fitted["networks"]:
        numbers = [f"{1e6 * c:.3g}" for c in (*network["alone"], *network["ranks"])]
        lines.append(row("-".join(map(str, network["widths"])), f"{network['parameters']:,}", *numbers))
    return lines


def many(B):
    return "never" if B is None else f"{B:,}"


def predicted(lines):
    batches = [f"B {step['B']:,}" for step in lines[0]["steps"]]
    table = head(
        "machine", "network", "parameters", "sums, µs", "pays from B", "half efficient from B", *batches
    )
    for line in lines:
        speedups = [f"{step['one'] / step['all']:.2f} ×" for step in line["steps"]]
        table.append(
            row(
                line["machine"],
                "-".join(map(str, line["widths"])),
                f"{line['parameters']:,}",
                micro(line["communication"]),
                many(line["pays_from"]),
                f"{line['half_efficient_from']:,}",
                *speedups,
            )
        )
    return ["Predicted, not measured: speed of all ranks relative to one GPU", "", *table]


def head(*cells):
    return [row(*cells), f"|{'---|' * len(cells)}"]


def row(*cells):
    return f"| {' | '.join(map(str, cells))} |"


def micro(seconds):
    return f"{1e6 * seconds:,.0f}" if seconds >= 1e-4 else f"{1e6 * seconds:.1f}"

"""`python benchmarks/page.py`: write docs/benchmarks.md from the files in benchmarks/results/.

    --check    write nothing; exit with 1 if the page differs from what would be written

Every figure on the page stands under its command, its machine, and a link to its file.
"""

import argparse
import json
import sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import parallel  # noqa: E402
from benchmarks.contenders import CONTENDERS  # noqa: E402
from benchmarks.jobs import jobs  # noqa: E402
from benchmarks.kinds import BUSY, QUIET  # noqa: E402
from benchmarks.report import WORDS, means  # noqa: E402
from benchmarks.tabular import contenders, mean, standing  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
INTRODUCTION = """\
# Benchmarks

`python benchmarks/page.py` writes this page from the files in
[benchmarks/results](../benchmarks/results); do not edit it by hand.

`python scripts/benchmark.py` measures training, prediction, an epoch and the import of ffnn_gpu
beside NumPy, PyTorch, JAX, scikit-learn, Keras and ONNX Runtime, as far as they are installed, and
writes such a file. `--check` shows that all of them compute the same losses and outputs, and
`--device cuda` measures on a GPU. `--kinds` measures one training step of every activation, loss,
layer, optimizer and number type of the package, which `benchmarks/kinds.py` lists.
`benchmarks/contenders/` holds one short file per library.
`python benchmarks/compare.py BEFORE.json AFTER.json` compares two files and fails if a job became
slower.

`python scripts/benchmark_tables.py` reads, types and encodes a table beside pandas with scikit-learn
and Polars. `python scripts/benchmark_tabular.py` compares the tabular estimators with boosted trees,
RealMLP, TabM, a forest and scikit-learn's perceptron on real tables.

- A figure is the median of the rounds; ± is half the distance of the quartiles.
- All contenders start from equal weights, read the same data and use the same number of threads.
- *products* are the matrix products of the step alone, through NumPy (on a GPU: cublasLt).
- *jax-scan* makes many steps per call. It is shown, but is not a peer in "best peer".
- *best peer* is the time of the fastest other library divided by ours: above 1, ffnn_gpu is faster.
- *ours-checking* is a step that also checks its targets; *ours* gets targets checked before the loop.
- *256×16* in a network stands for 16 layers of width 256.
"""
HEADS = {
    "train": "Adam step: ReLU, softmax cross-entropy",
    "predict": "Forward pass; `ours-predict` is `Network.predict`, which also checks its input and output",
    "step": "One training step of each kind",
    "busy-step": "The same steps beside another program that computes on one core",
    "epoch": "One epoch of 60,000 rows of 784 bytes, shuffled and scaled",
    "import": "Import of the library",
}


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check, text = parser.parse_args(arguments).check, page()
    if not check:
        PAGE.write_text(text, encoding="utf-8", newline="\n")
        print(f"written to {PAGE}")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print(f"{PAGE} is out of date: run python benchmarks/page.py", file=sys.stderr)
        return 1
    return 0


def page(folder=RESULTS):
    """Return the text of docs/benchmarks.md."""
    found = {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    }
    side_by_side = {name: result for name, result in found.items() if "groups" in result}
    # The most complete runs first, and of equally complete ones the newest.
    order = sorted(side_by_side, key=lambda name: rank(side_by_side[name]), reverse=True)
    sections = [section(name, side_by_side[name]) for name in order]
    sections += [of_ranks(name, result) for name, result in found.items() if "measured" in result]
    sections += [of_growth(name, result) for name, result in found.items() if name.endswith("-scaling.json")]
    sections += [of_tables(name, result) for name, result in found.items() if name.endswith("-tables.json")]
    sections += [of_tabular(name, result) for name, result in found.items() if name.endswith("-tabular.json")]
    if not any(result["settings"]["device"] == "cuda" for result in side_by_side.values()):
        sections.append("## GPU\n\nNo GPU results yet.\n")
    return "\n".join([INTRODUCTION, *sections])


def rank(result):
    return "kinds" not in result["settings"], len(result["groups"]), result["date"]


def section(name, result):
    """One file of scripts/benchmark.py: what it was measured with, then a table for each kind of job."""
    settings = result["settings"]
    commit = (result["machine"].get("commit") or "no commit")[:10]
    what = "Kinds of step" if "kinds" in settings else "Side by side"
    precision = "" if "kinds" in settings else f", {settings['precision']}"
    lines = [f"## {what}, {settings['device']}{precision}, commit {commit}", ""]
    lines += source(name, command(result), result["date"], result["machine"], settings["threads"])
    averages = means(result["groups"])
    for kind in dict.fromkeys(group["kind"] for group in result["groups"]):
        groups = [group for group in result["groups"] if group["kind"] == kind]
        lines += [f"### {HEADS[kind]}", "", *times(groups), ""]
        ratios = [f"{WORDS[ratio]} {value:.2f}" for ratio, value in averages[kind].items()]
        if ratios and len(groups) > 1:
            lines += [f"Geometric means: {', '.join(ratios)}.", ""]
        lines += slower(groups)
        missing = {f"{absent} ({why})" for group in groups for absent, why in group["missing"].items()}
        lines += [f"Not measured: {'; '.join(sorted(missing))}.", ""] if missing else []
    return "\n".join(lines)


def slower(groups):
    """The sentence that names the kinds of step of which a peer was faster."""
    ratios = {group["job"]["name"]: group["ratios"] for group in groups if group["kind"] in (QUIET, BUSY)}
    found = {name: r["best_peer_over_ours"] for name, r in ratios.items() if r}
    if not found:
        return []
    worst = [f"{name} {found[name]:.2f}" for name in sorted(found, key=found.__getitem__) if found[name] < 1]
    behind = f"A peer is faster in {len(worst)}: {', '.join(worst)}." if worst else "No peer is faster."
    return [f"{len(found)} kinds. {behind}", ""]


def source(name, text, date, machine=None, threads=None):
    """The command, the machine and the file of the figures that follow."""
    lines = [f"    {text}", ""]
    if machine is not None:
        versions = {"Python": machine["versions"]["python"], **machine["packages"]}
        lines += [
            f"- Machine: {machine.get('gpu') or machine['processor']}, {machine['cpus']} cores, "
            f"{threads} thread{'s' * (threads > 1)} for each process, {machine['platform']}",
            f"- Versions: {', '.join(f'{package} {version}' for package, version in versions.items())}",
        ]
    lines += [f"- Date: {date}"] if date else []
    return [*lines, f"- File: [{name}](../benchmarks/results/{name})", ""]


def command(result):
    """The command that measures what a file holds; the file records its settings, not the command."""
    settings, titles = result["settings"], [group["title"].partition(",")[0] for group in result["groups"]]
    words = ["python scripts/benchmark.py"]
    words += [f"--device {settings['device']} --precision {settings['precision']}"] * (
        settings["device"] == "cuda"
    )
    every = [job.title for job in jobs(settings["device"], settings["quick"])] + ["import"]
    if "kinds" in settings:
        chosen = settings["kinds"]
        words.append("--kinds" if chosen == "all" else f'--kinds "{",".join(chosen)}"')
    elif titles != every:
        words.append(f'--networks "{",".join(titles)}"')
    words += [f"--{name} {settings[name]}" for name in ("threads", "rounds", "seconds")]
    data = any(group["job"]["data"] for group in result["groups"] if "job" in group)
    return " ".join([*words, *["--data DIR"] * data])


def times(groups):
    """The table of one kind: a row for each job, a column for each contender that did one of them."""
    kind, known = groups[0]["kind"], [*CONTENDERS, "products"]
    names = sorted({name for group in groups for name in group["results"]}, key=known.index)
    wide = {"import": [], QUIET: ["kind"], BUSY: ["kind"]}.get(kind, ["network", "batch"])
    lines = parallel.head(*wide, *names, "best peer")
    for group in groups:
        cells = described(group.get("job"))
        cells += [spread(group["results"].get(name)) for name in names]
        ratios = group["ratios"]
        best = f"{ratios['best_peer_over_ours']:.2f} ({ratios['best_peer']})" if "best_peer" in ratios else ""
        lines.append(parallel.row(*cells, best))
    return lines


def described(job):
    """The cells that tell a job from the others of its kind."""
    if not job:
        return []
    return [job["name"]] if job["kind"] == QUIET else [network(job["widths"]), f"{job['B']:,}"]


def spread(result):
    """The median and half the distance of the quartiles: "16.2 µs ± 8 %"."""
    return f"{time(result['median_us'])} ± {100 * result['spread'] / 2:.0f} %" if result else ""


def time(us):
    """Three digits and the unit that suits them."""
    divisor, unit = (1e6, "s") if us >= 1e6 else (1e3, "ms") if us >= 1e3 else (1, "µs")
    return f"{us / divisor:#.3g}".removesuffix(".") + f" {unit}"


def network(widths):
    """The widths, with runs of four or more equal ones as "256×4"."""
    runs = [(width, len([*run])) for width, run in groupby(widths)]
    return "-".join(f"{width}×{n}" if n > 3 else "-".join([str(width)] * n) for width, n in runs)


def of_ranks(name, result):
    """A file of scripts/benchmark.py --parallel."""
    lines = ["## Several processes", ""]
    lines += source(name, "python scripts/benchmark.py --parallel", result["date"], result["machine"], 1)
    lines += [
        "[distributed.md](distributed.md) explains the formulas and the constants of the predictions.",
        "",
    ]
    return "\n".join([*lines, parallel.report(result), ""])


def of_growth(name, result):
    """A file of scripts/scaling.py; the first ones are a list without the machine."""
    lines, machine, date = result, None, None
    if isinstance(result, dict):
        lines, machine, date = result["lines"], result["machine"], result["date"]
    shown = ["## How the cost of a step grows", ""]
    shown += source(name, "python scripts/scaling.py --json FILE", date, machine, machine and machine["cpus"])
    if machine is None:
        shown[-2:-2] = ["- Machine: not recorded in the file, whose name begins with its processor"]
    shown += [
        "One Adam step and the gather of its minibatch, in float32. GFLOP/s counts the matrix products.",
        "",
    ]
    shown += parallel.head("grows", "size", "network", "batch", "step", "GFLOP/s")
    for line in lines:
        cells = [
            line["what"],
            f"{line['size']:,}",
            network(line["widths"]),
            f"{line['B']:,}",
            time(line["us"]),
        ]
        shown.append(parallel.row(*cells, f"{line['gflops']:.0f}"))
    return "\n".join([*shown, ""])


def of_tables(name, result):
    """A file of scripts/benchmark_tables.py."""
    machine, rows = result["machine"], result["rows"]
    words = f"python scripts/benchmark_tables.py --rows {rows} --rounds {result['rounds']} --json FILE"
    shown = [f"## A table of {rows:,} rows, commit {(machine.get('commit') or 'no commit')[:10]}", ""]
    shown += source(name, words, result["date"], machine, machine["cpus"])
    shown += [
        "From a CSV file of 20 mixed columns to a float32 matrix, with the import of the library. Only",
        "ffnn_gpu checks that every row has 20 cells and finds out which columns are numbers, categories,",
        "dates or ids.",
        f"Load average of the machine before the first run: {result['load']:.1f}. Other programs that",
        "compute lengthen the times; the processor time grows less.",
        "",
    ]
    ours, several = result["medians"]["ffnn_gpu"], ("processor_seconds", "megabytes")
    shown += parallel.head(
        "library", "time", "processor time", "largest memory", "our processor time / its", "our memory / its"
    )
    for library, median in result["medians"].items():
        cells = [f"{median[key]:.2f} s" for key in ("seconds", "processor_seconds")]
        ratios = [f"{ours[key] / median[key]:.2f}" for key in several]
        shown.append(parallel.row(library, *cells, f"{median['megabytes']:,.0f} MB", *ratios))
    return "\n".join([*shown, ""])


def of_tabular(name, result):
    """A file of scripts/benchmark_tabular.py: every table, then ranks over each set of tables."""
    machine, rows = result["machine"], result["rows"]
    splits = ",".join(dict.fromkeys(row["split"] for row in rows))
    tables = list(dict.fromkeys(row["table"] for row in rows))
    names = list(dict.fromkeys(row["contender"] for row in rows))
    words = f"python scripts/benchmark_tabular.py --tables {','.join(tables)} --splits {splits}"
    words += f" --contenders {','.join(names)}"
    if result.get("limit"):
        words += f" --limit {result['limit']:g}"
    words += " --json FILE"
    shown = [f"## Answers on real tables, commit {(machine.get('commit') or 'no commit')[:10]}", ""]
    shown += source(name, words, result["date"], machine, 2)
    shown += [
        f"Up to {result['most_rows']:,} rows of each table; a split holds out a fifth. Every contender has",
        "its defaults. The error is the root mean squared error, or the share of wrong classes, as the mean",
        "over the splits; the best is bold. Load average of the machine before the first run:",
        f"{result['load']:.1f}. Programs beside it lengthen the times; the processor time grows less.",
        "",
    ]
    for kind, known in result["sets"].items():
        chosen = [row for row in rows if row["table"] in known]
        shown += of_set(SETS[kind], names, chosen) if chosen else []
    if result.get("stopped"):
        shown += of_stopped(result["stopped"], result["limit"])
    return "\n".join(shown)


def of_stopped(stopped, limit):
    """A line for each contender that the limit ended, because a rank does not count a missing table."""
    lines = [f"- {row['contender']} on {row['table']}, split {row['split']}" for row in stopped]
    return [
        f"These contenders were stopped after {limit:g} s. Their ranks leave these tables out:",
        "",
        *lines,
        "",
    ]


SETS = {
    "chosen-on": "Tables on which the defaults were chosen",
    "looked-at-once": "Tables that were looked at only after the defaults were chosen",
}


def of_set(title, names, rows):
    """The errors of one set of tables, then each contender's rank, error, time and memory."""
    shown = [f"### {title}", "", *parallel.head("table", "rows", *names)]
    for table in dict.fromkeys(row["table"] for row in rows):
        errors = {who: mean(rows, "error", table=table, contender=who) for who in contenders(rows, table)}
        best = min(errors.values())
        shown_errors = {who: f"**{e:.4g}**" if e == best else f"{e:.4g}" for who, e in errors.items()}
        cells = [shown_errors.get(who, "") for who in names]
        shown.append(parallel.row(table, f"{mean(rows, 'rows', table=table):,.0f}", *cells))
    shown += ["", *parallel.head("contender", "mean rank", "error / best", "fit", "processor time", "memory")]
    for line in standing(rows):
        cells = [f"{line['rank']:.2f}", f"{line['error']:.3f}"]
        cells += [f"{line[key]:.1f} s" for key in ("fit", "fit_processor")]
        shown.append(parallel.row(line["contender"], *cells, f"{line['megabytes']:,.0f} MB"))
    return [*shown, ""]


if __name__ == "__main__":
    sys.exit(main())

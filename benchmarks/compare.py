"""`python benchmarks/compare.py BEFORE.json AFTER.json`: fail if a job became slower between two results.

    --threshold RATIO    the largest allowed slowdown, default 1.10

A machine is faster on one day than on another. Therefore the change of our time is divided by the median
change of the peers that both runs measured in the same version: `relative`. A job without such a peer is
compared by our time alone, with a warning.

Exit codes: 0 no job is slower than the threshold allows, 1 a job is slower or failed, 2 the files cannot be
compared.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.report import UNITS, ours  # noqa: E402

SAME = ("device", "precision", "threads")  # settings without which a comparison has no meaning


class ComparisonError(Exception):
    """The sentence that says why two results cannot be compared."""


def main(arguments=None):
    options = parse(arguments)
    try:
        before, after = read(options.before), read(options.after)
        lines, warnings = compared(before, after)
    except ComparisonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(table(lines, options.threshold)))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 1 if any(failed(line, options.threshold) for line in lines) else 0


def parse(arguments):
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("before", type=Path, metavar="BEFORE.json")
    parser.add_argument("after", type=Path, metavar="AFTER.json")
    parser.add_argument("--threshold", type=float, default=1.1)
    options = parser.parse_args(arguments)
    if not options.threshold >= 1:
        parser.error(f"--threshold={options.threshold:g} must be at least 1, such as 1.10 for 10 % slower")
    return options


def read(path):
    """Return the result in a file of scripts/benchmark.py. Raises ComparisonError."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ComparisonError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ComparisonError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(result, dict) or result.get("schema") != 1 or "groups" not in result:
        raise ComparisonError(
            f"{path} is no result of scripts/benchmark.py without --parallel: schema 1 or groups are missing"
        )
    return result


def compared(before, after):
    """Return (lines, warnings), a line for each of our contenders at each common job.

    Raises ComparisonError.
    """
    for name in SAME:
        one, other = before["settings"].get(name), after["settings"].get(name)
        if one != other:
            raise ComparisonError(f"{name} is {one} in BEFORE and {other} in AFTER; measure both alike")
    warnings = []
    for name in ("processor", "gpu"):
        one, other = before["machine"].get(name), after["machine"].get(name)
        if one != other:
            warnings.append(f"the {name} is {one} in BEFORE and {other} in AFTER")
    lines, later = [], {group["title"]: group for group in after["groups"]}
    for group in before["groups"]:
        other = later.get(group["title"])
        if other is None:
            warnings.append(f"AFTER does not measure {group['title']}")
        elif work(other) != work(group):
            warnings.append(f"{group['title']} is another job in AFTER: its settings differ")
        else:
            lines += [line(group, other, name) for name in group["results"] if ours(name)]
    if not lines:
        raise ComparisonError("the two files have no job in common")
    alone = [found["title"] for found in lines if not found["peers"] and found["slower"] is not None]
    for title in dict.fromkeys(alone):
        warnings.append(
            f"{title} has no common peer: our time alone is compared, in which the machine shows too"
        )
    return lines, warnings


def work(group):
    """What was measured; an import has no job."""
    return group.get("job")


def line(before, after, name):
    """Compare our contender `name` at one job; `slower` is None if AFTER has no time for it."""
    peers = {peer: change for peer in before["results"] if (change := change_of(peer, before, after))}
    found = {"title": before["title"], "kind": before["kind"], "name": name, "peers": peers}
    found["before"] = before["results"][name]["median_us"]
    if name not in after["results"]:
        why = after["missing"].get(name, "it was not measured")
        return found | {"after": None, "slower": None, "relative": None, "why": why}
    found["after"] = after["results"][name]["median_us"]
    slower = found["after"] / found["before"]
    return found | {"slower": slower, "relative": slower / statistics.median(peers.values() or [1.0])}


def change_of(peer, before, after):
    """Return a peer's time in AFTER divided by that in BEFORE; None for ours and if it is not comparable."""
    one, other = before["results"][peer], after["results"].get(peer)
    if ours(peer) or other is None or one.get("version") != other.get("version"):
        return None
    return other["median_us"] / one["median_us"]


def failed(found, threshold):
    return found["relative"] is None or found["relative"] > threshold


def table(lines, threshold):
    """Return the lines of the table that people read."""
    wide = max(len(f"{found['title']} {found['name']}") for found in lines)
    shown = [f"{'':<{wide}}{'before':>13}{'after':>13}{'change':>9}{'peers':>9}{'relative':>10}"]
    for found in lines:
        text = f"{found['title']} {found['name']}".ljust(wide) + f"{timed(found, 'before'):>13}"
        if found["after"] is None:
            shown.append(f"{text}{'—':>13}   failed: {found['why']}")
            continue
        peers = f"{statistics.median(found['peers'].values()):.2f}" if found["peers"] else "—"
        text += f"{timed(found, 'after'):>13}{found['slower']:>9.2f}{peers:>9}{found['relative']:>10.2f}"
        shown.append(text + ("   slower" if failed(found, threshold) else ""))
    count = sum(failed(found, threshold) for found in lines)
    total = f"{len(lines)} figures, threshold {threshold:.2f}: "
    return [*shown, total + (f"{count} slower or failed" if count else "none is slower")]


def timed(found, which):
    divisor, unit = UNITS.get(found["kind"], (1, "µs"))
    return f"{found[which] / divisor:.4g} {unit}"


if __name__ == "__main__":
    sys.exit(main())

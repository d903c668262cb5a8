"""Compute medians, spreads and ratios of measurements, as JSON values and as a table."""

import math
import statistics

from benchmarks.jobs import Job

UNITS = {"epoch": (1e6, "s"), "import": (1e3, "ms")}  # kind → microseconds in the unit shown
MIB = 2**20
# Shown, but not compared: jax-scan makes many steps per call on a CPU, ours-checking checks its targets too.
ASIDE = {"jax-scan", "ours-checking"}
WORDS = {
    "best_peer_over_ours": "best peer / ours", "fraction_of_products": "fraction of raw products",
    "ours_over_floor": "ours / floor",
}  # fmt: skip


def ours(name):
    return name.split("-")[0] == "ours"


def summarized(group, limits=None):
    """Return the group with median and spread of each contender, and its ratios.

    median, spread        of the rounds; the spread is the interquartile range divided by the median
    best_peer_over_ours   time of the fastest peer divided by ours: above 1, ffnn_gpu is faster
    fraction_of_products  time of the matrix products alone divided by ours
    ours_over_floor       our time divided by the least that the measured `limits` of the device allow
    """
    results = {name: result | statistics_of(result["rounds_us"]) for name, result in group["results"].items()}
    medians = {name: result["median_us"] for name, result in results.items()}
    mine = min((t for name, t in medians.items() if ours(name) and name not in ASIDE), default=None)
    peers = {name: t for name, t in medians.items() if not ours(name) and name not in {"products", *ASIDE}}
    ratios = {}
    if mine is not None and peers:
        best = min(peers, key=peers.__getitem__)
        ratios |= {"best_peer": best, "best_peer_over_ours": peers[best] / mine}
    if mine is not None and "products" in medians:
        ratios["fraction_of_products"] = medians["products"] / mine
    if mine is not None and limits and group["kind"] == "train":
        ratios["floor_us"] = 1e6 * Job(**group["job"]).floor(**limits)
        ratios["ours_over_floor"] = mine / ratios["floor_us"]
    return group | {"results": results, "ratios": ratios}


def statistics_of(rounds):
    median = statistics.median(rounds)
    quartiles = statistics.quantiles(rounds, n=4, method="inclusive") if len(rounds) > 1 else [median] * 3
    return {"median_us": median, "spread": (quartiles[2] - quartiles[0]) / median}


def means(groups):
    """Return the geometric means of each ratio over the groups of each kind: {"train": {…}, …}."""
    found = {}
    for kind in dict.fromkeys(group["kind"] for group in groups):
        ratios = [group["ratios"] for group in groups if group["kind"] == kind]
        values = {name: [r[name] for r in ratios if name in r] for name in WORDS}
        found[kind] = {name: geometric_mean(numbers) for name, numbers in values.items() if numbers}
    return found


def geometric_mean(numbers):
    return math.exp(statistics.fmean(map(math.log, numbers)))


def table(group):
    """Return a summarized group as a printed table."""
    divisor, unit = UNITS.get(group["kind"], (1, "µs"))
    per = {"train": " per step", "step": " per step", "busy-step": " per step", "predict": " per call"}.get(
        group["kind"], ""
    )
    mine = min((r["median_us"] for name, r in group["results"].items() if ours(name)), default=math.nan)
    lines = [
        f"{group['title']}  ({unit}{per})",
        f"  {'':<14}{'median':>12}{'spread':>9}{'× ours':>9}{'peak MiB':>10}",
    ]
    for name, result in sorted(group["results"].items(), key=lambda entry: entry[1]["median_us"]):
        median, peak = result["median_us"], result.get("peak_bytes")
        lines.append(
            f"  {name:<14}{median / divisor:>12.4g}{result['spread']:>9.0%}{median / mine:>9.2f}"
            + (f"{peak / MIB:>10.0f}" if peak else "")
        )
    lines += [f"  {name:<14}{'—':>12}   {why}" for name, why in group["missing"].items()]
    return "\n".join([*lines, *ratio_lines(group["ratios"])])


def ratio_lines(ratios):
    texts = [f"{words} {ratios[name]:.2f}" for name, words in WORDS.items() if name in ratios]
    if "best_peer" in ratios:
        texts[0] += f" ({ratios['best_peer']})"
    if "floor_us" in ratios:
        texts[-1] += f" (floor {ratios['floor_us']:.4g} µs)"
    return ["  " + "   ".join(texts)] if texts else []


def ratios_of(groups):
    """Return the ratios of a kind of step, alone and beside a busy program, as a line."""
    texts = []
    for words, group in zip(("best peer / ours", "busy"), groups, strict=True):
        ratios = group["ratios"]
        best = f"{ratios['best_peer_over_ours']:.2f} ({ratios['best_peer']})" if ratios else "—"
        texts.append(f"{words} {best}")
    return "   ".join(texts)


def mean_lines(found):
    """Return the geometric means as printed lines."""
    return [
        f"geometric mean, {kind}: "
        + "   ".join(f"{WORDS[name]} {value:.2f}" for name, value in ratios.items())
        for kind, ratios in found.items()
        if ratios
    ]


def disagreements(values, tolerance):
    """Return a sentence for each contender whose values differ too much from the first one's."""
    (reference, wanted), *others = values.items()
    scale = max(map(abs, flat(wanted)))
    found = []
    for name, got in others:
        pairs = list(zip(flat(got), flat(wanted), strict=True))
        worst = max(math.inf if math.isnan(a) else abs(a - b) for a, b in pairs)
        if not worst <= tolerance * scale:
            found.append(
                f"{name} differs from {reference} by {worst / scale:.1e} of the largest value, "
                f"more than {tolerance:.0e}"
            )
    return found


def flat(values):
    return [number for value in values for number in (flat(value) if isinstance(value, list) else [value])]

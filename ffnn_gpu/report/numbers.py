"""Numbers as HTML: rounded for people, exact for programs."""

import math

from ffnn_gpu.report.markup import Html, element


def number(value: float | None, digits: int = 4) -> Html:
    """Return <data> with the exact value; a number that does not exist is a dash."""
    if value is None or math.isnan(value):
        return element("span", "\u2013", title="not known")
    return element("data", rounded(value, digits), value=repr(float(value)))


def rounded(value: float, digits: int = 4) -> str:
    """0.9722, 12.34, 1,234, 1.2e−05: a number with about four digits."""
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3 or math.isinf(value):
        text = f"{value:.{digits}g}"
    elif size >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{digits if size < 10 else digits - 2}f}"
    return text.replace("-", "\u2212")


def percent(share: float) -> str:
    """97.2 %"""
    return f"{100 * share:.1f}\u00a0%"

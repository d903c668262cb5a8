"""What the rows of scripts/benchmark_tabular.py say of a contender: its rank, error, time and memory."""

from __future__ import annotations

from typing import Any

import numpy as np

SMALL = 1e-4  # added to errors before they are divided, because the best share of wrong classes may be 0


def standing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a line for each contender, the best mean rank first.

    The error of a table is the mean over its splits. "error" is the geometric mean over tables of the error
    divided by the best contender's. Equal errors share the best of their ranks.
    """
    tables = dict.fromkeys(row["table"] for row in rows)
    errors = [
        {who: mean(rows, "error", table=table, contender=who) for who in contenders(rows, table)}
        for table in tables
    ]
    return sorted((line(rows, errors, who) for who in contenders(rows)), key=lambda line: line["rank"])


def line(rows: list[dict[str, Any]], errors: list[dict[str, float]], who: str) -> dict[str, Any]:
    """Return what one contender reached, from the errors of each table by contender."""
    own = [table for table in errors if who in table]
    return {
        "contender": who,
        "rank": float(np.mean([sorted(table.values()).index(table[who]) + 1 for table in own])),
        "error": float(np.exp(np.mean([np.log(ratio(table, who)) for table in own]))),
        "fit": mean(rows, "fit", contender=who),
        "fit_processor": mean(rows, "fit_processor", contender=who),
        "megabytes": max(row["megabytes"] for row in rows if row["contender"] == who),
    }


def ratio(table: dict[str, float], who: str) -> float:
    return (table[who] + SMALL) / (min(table.values()) + SMALL)


def contenders(rows: list[dict[str, Any]], table: str | None = None) -> list[str]:
    return list(dict.fromkeys(row["contender"] for row in rows if table in (None, row["table"])))


def mean(rows: list[dict[str, Any]], key: str, **chosen: str) -> float:
    """Return the mean of `key` over the rows whose entries equal `chosen`."""
    return float(np.mean([row[key] for row in rows if chosen.items() <= row.items()]))

"""Times as ISO 8601 writes them, in several ways in one column: 2024-05-01, 2024-05-01T10:00:00.5+02:00.

A time with a zone is converted to UTC. A column has zones in every cell or in none: without one, a cell
beside cells with zones could lie hours away. Columns whose source has times as a type are in UTC, so a model
trained on one reads both.
"""

MIXED, ZONED = "ISO 8601", "ISO 8601 with zones"  # names of ways, beside those of strptime
DAY = r"\d{4}-\d{2}-\d{2}"
CLOCK = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?"
ZONE = r" ?(Z|UTC|[+-](0\d|1[0-4])(:?[0-5]\d)?)"
CLOCKS = ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M")


def seconds_of_iso(cell: str, way: str) -> str:
    """Return the SQL expression for a time in seconds since 1970, in UTC; NULL if the text is none.

    way: MIXED for times without a zone, ZONED for times with one, "" for both.
    """
    text = f"replace(upper(trim({cell})), ',', '.')"
    without = f"WHEN regexp_full_match({text}, '{DAY}({CLOCK})?') THEN epoch(try_cast({text} AS TIMESTAMP))"
    joined = f"regexp_replace(regexp_replace({text}, ' ?(Z|UTC)$', 'Z'), ' ([+-][0-9:]+)$', '\\1')"
    having = (
        f"WHEN regexp_full_match({text}, '{DAY}{CLOCK}{ZONE}') THEN epoch(try_cast({joined} AS TIMESTAMPTZ))"
    )
    cases = {MIXED: without, ZONED: having, "": f"{without} {having}"}
    return f"CASE {cases[way]} END"


def has_zone(written: str) -> bool:
    """Return whether a way of writing times, in strptime's language or of this module, has a zone."""
    return written == ZONED or written.endswith(("Z", "%z", "UTC"))


def way_of(written: str) -> str:
    """Return the way of ISO 8601 that also reads what a way of strptime reads; "" if there is none."""
    if written in (MIXED, ZONED) or not written.startswith("%Y-%m-%d") or "%I" in written:
        return ""
    return ZONED if has_zone(written) else MIXED

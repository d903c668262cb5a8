"""Times are read in any mixture of ISO 8601; days and months are read in the order that the user gives."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.cells import time_of
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.frames import table_of as frame_table
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.spelling import Spelling
from tests.tables.test_kinds import kind_of, table_of, typed

DAYS = [datetime(2024, 1, 1) + timedelta(days=k, hours=k % 24) for k in range(60)]


def read(cells, written):
    table = table_of(a=cells)
    return table.numbers(time_of(table, 0, written, Spelling())).tolist()


def ordered(cells, day_first):
    (column,) = columns_of(table_of(a=cells), Decisions(), Spelling(day_first=day_first), allow_unclear=True)
    return column


def test_mixture_of_dates_clocks_and_fractions_is_a_column_of_times():
    ways = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M", "%Y-%m-%dt%H:%M:%S,5")
    column = kind_of([day.strftime(ways[k % 5]) for k, day in enumerate(DAYS)])
    assert (column.kind, column.written, column.missing) == ("time", "ISO 8601", 0)
    cells = ["2024-01-05", "2024-01-05T10:00", "2024-01-05 10:00:00.25", "2024-01-05 10:00:00,5", "NA", ""]
    base = datetime(2024, 1, 5, tzinfo=UTC).timestamp()
    expected = [base, base + 36_000, base + 36_000.25, base + 36_000.5, np.nan, np.nan]
    np.testing.assert_array_equal(read(cells, column.written), expected)


def test_few_times_without_fraction_do_not_make_a_column_unclear():
    cells = [f"{day:%Y-%m-%dT%H:%M:%S}.125" for day in DAYS]
    cells[7] = cells[7].removesuffix(".125")  # as Python's isoformat leaves out a fraction of 0
    assert kind_of(cells).kind == "time"


def test_zones_are_converted_to_utc():
    written = ["2024-01-05T10:00:00Z", "2024-01-05 12:00:00+02:00", "2024-01-05T06:30:00.5-0330",
               "2024-01-05T10:00 UTC", "2024-01-05 11:00:00 +01"]  # fmt: skip
    column = kind_of([cell.replace("05", f"{k + 1:02}", 1) for k in range(12) for cell in written])
    assert (column.kind, column.written) == ("time", "ISO 8601 with zones")
    hours = (np.array(read(written, column.written)) % 86_400) / 3600
    np.testing.assert_allclose(hours, [10, 10, 10 + 0.5 / 3600, 10, 10])


def test_times_with_and_without_a_zone_are_an_error_with_lines():
    cells = [f"{day:%Y-%m-%dT%H:%M:%S}{'Z' if k % 3 else ''}" for k, day in enumerate(DAYS)]
    with pytest.raises(DataError, match="40 of 60 times have a zone such as Z") as error:
        kind_of(cells, name="at")
    assert "line 2 holds '2024-01-01T00:00:00', line 5 holds" in str(error.value)
    assert "--drop at" in str(error.value)


def test_model_keeps_whether_times_have_zones():
    cells = [f"{day:%Y-%m-%dT%H:%M:%S}{('Z', '+02:00')[k % 2]}" for k, day in enumerate(DAYS)]
    table = table_of(a=cells)
    encoding = Encoding.fit(table, columns_of(table, Decisions(), Spelling()), np.arange(60))
    again = Encoding.from_json(encoding.to_json())
    one, other = table_of(a=["2024-01-05T12:00:00+02:00"]), table_of(a=["2024-01-05 10:00:00.000 UTC"])
    np.testing.assert_array_equal(again.encode(one), again.encode(other))
    with pytest.raises(DataError, match=r"the model reads times here.*line 2 holds '2024-01-05T10:00:00'"):
        again.encode(table_of(a=["2024-01-05T10:00:00"]))


@pytest.mark.parametrize("kind", ["TIMESTAMP", "DATE"])
def test_model_of_times_with_zones_refuses_typed_times_without_one(kind):
    table = table_of(a=[f"{day:%Y-%m-%dT%H:%M:%S}Z" for day in DAYS])
    encoding = Encoding.fit(table, columns_of(table, Decisions(), Spelling()), np.arange(60))
    with pytest.raises(DataError, match=r"'a' holds times without a time zone.*tz_localize"):
        encoding.encode(typed(f"SELECT {kind} '2024-01-05'", "a"))
    with pytest.raises(DataError, match="holds times without a time zone"):
        encoding.encode(frame_table({"a": [DAYS[4]]}))
    zoned = encoding.encode(frame_table({"a": [DAYS[4].replace(tzinfo=UTC), None]}))
    np.testing.assert_array_equal(zoned[:1], encoding.encode(table)[4:5])
    assert len(encoding.encode(typed(f"SELECT NULL::{kind}", "a"))) == 1


@pytest.mark.parametrize("way", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"])
def test_later_table_may_write_times_in_another_way_of_iso(way):
    table = table_of(a=[day.strftime(way) for day in DAYS])
    encoding = Encoding.fit(table, columns_of(table, Decisions(), Spelling()), np.arange(60))
    later = encoding.encode(table_of(a=["2024-01-05", "2024-01-05T00:00", "2024-01-05 00:00:00.0"]))
    np.testing.assert_array_equal(later, later[[0, 0, 0]])


def test_model_trained_on_typed_times_reads_texts_with_and_without_zone():
    table = typed(
        "SELECT TIMESTAMPTZ '2024-01-01 10:00:00+00' + to_hours(31 * k) FROM range(60) AS r(k)", "a"
    )
    encoding = Encoding.fit(table, columns_of(table, Decisions(), Spelling()), np.arange(60))
    later = encoding.encode(
        table_of(a=["2024-01-05 10:00:00+00:00", "2024-01-05T12:00+02:00", "2024-01-05 10:00"])
    )
    np.testing.assert_array_equal(later, later[[0, 0, 0]])


@pytest.mark.parametrize(
    "cell", ["2024-02-30", "2024-01-05T25:00", "2024-01-05T10:00+25:00", "2024-01-05Z", "infinity"]
)
def test_texts_that_are_no_time_are_missing(cell):
    assert np.isnan(read([cell], "")).all()


AMBIGUOUS = ["03/04/2024", "01/02/2024", "12/01/2024", "05/09/2024", "02/11/2024"]


def test_order_of_day_and_month_is_what_the_user_says():
    assert ordered(AMBIGUOUS, None).note.endswith("--day-first or --month-first decides")
    for day_first, way in ((True, "%d/%m/%Y"), (False, "%m/%d/%Y")):
        column = ordered(AMBIGUOUS, day_first)
        assert (column.kind, column.written, column.note) == ("time", way, "")
    in_order = [f"{day:02}/{month:02}/2024" for month in (1, 2, 3) for day in (1, 5, 9)]
    assert ordered(in_order, False).written == "%m/%d/%Y"
    assert ordered([cell.replace("/", "-") for cell in AMBIGUOUS], True).written == "%d-%m-%Y"


def test_dates_that_contradict_the_order_are_an_error_with_lines():
    column = ordered([*AMBIGUOUS, "25/03/2024"], False)
    assert column.kind == "unclear" and "--month-first" in column.reason and "or --day-first" in column.reason
    assert "5 of 6 cells are times" in column.reason and "line 7 holds '25/03/2024'" in column.reason
    assert ordered([*AMBIGUOUS, "25/03/2024"], True).kind == "time"
    assert ordered(["2024-01-05", "2024-02-05", "2024-03-05"], True).written == "%Y-%m-%d"


def test_names_of_months_need_no_comma():
    column = kind_of([f"{day:%B} {day.day} {day.year}" for day in DAYS])
    assert (column.kind, column.written) == ("time", "%B %d %Y")

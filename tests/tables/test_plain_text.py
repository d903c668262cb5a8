"""Text files are plain only if DuckDB reads the cells that the csv module reads, in blocks of any size."""

import pytest

from ffnn_gpu.tables import plain_text
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.plain_text import Plain, plain

DIALECT = Dialect(",", '"', ".", True, "utf-8")
PLAIN = {
    "LF": (b"a,b\n1,2\n33,4\n", Plain(3, 4)),
    "CR LF": (b"a,b\r\n1,2\r\n33,4\r\n", Plain(3, 4, True)),
    "no line end at the end": (b"a,b\n1,2\n33,4", Plain(3, 4)),
    "blank lines after the header": (b"a,b\n\n1,2\n\n", Plain(2, 3)),
    "quotes at the borders of cells": (b'"a",b\n"1","x""y"\n3,""\n', Plain(3, 10)),
    "separators and line ends in quotes": (b'a,b\n"1,\n2",3\n"\n\n,",4', Plain(3, 8)),
    "quotes at the end": (b'a,b\n1,"2"', Plain(2, 5)),
    "a byte order mark": (b"\xef\xbb\xbfa,b\n1,2\n", Plain(2, 3)),
}
NOT_PLAIN = {
    "the file ends in quotes": b'a,b\n1,"2\n',
    "the last cell opens a quote": b'a,b\n1,2\n3,"',
    "the file ends with CR": b"a,b\r\n1,2\r",
    "CR alone": b"a,b\r1,2\r",
    "a cell too many": b"a,b\n1,2,3\n",
    "a separator too many": b"a,b\n1,2,\n",
    "a cell too few": b"a,b\n1\n",
    "a cell too few in the last row": b"a,b\n1,2\n3",
    "a cell too many in the last row": b"a,b\n1,2\n3,4,5",
    "a row with quoted line ends has a cell too many": b'a,b\n1,"\n\n",3\n',
    "a row with quoted line ends has a cell too few": b'a,b\n"1\n\n"\n',
    "one row is too long, and the next is too short": b"a,b\n1,2,3\n4\n",
    "a blank line before the header": b"\na,b\n1,2\n",
    "blanks around the separator": b'a,b\n1, "2"\n',
    "a blank after the closing quote": b'a,b\n1,"2" \n',
    "a letter after the closing quote": b'a,b\n"1"x,2\n',
    "a quote within a cell": b'a,b\n1"2"3,4\n',
    "an inch": b'a,b\n3",4"\n',
    "CR before an opening quote": b'a,b\r\n1,2\r"3",4\r\n',
    "lines that end differently": b"a,b\n1,2\r\n",
    "lines that end differently, CR LF first": b"a,b\r\n1,2\n",
    "a NUL byte": b"a,b\n1,\x002\n",
}


@pytest.fixture(params=[1, 1 << 20])
def found(request, tmp_path, monkeypatch):
    """Return a function that checks the bytes of a file of two columns."""
    monkeypatch.setattr(plain_text, "BLOCK", request.param)

    def checked(content):
        (tmp_path / "a.csv").write_bytes(content)
        return plain(tmp_path / "a.csv", DIALECT, 2)

    return checked


@pytest.mark.parametrize("case", PLAIN)
def test_plain_file_has_its_rows_and_the_length_of_the_longest(found, case):
    content, size = PLAIN[case]
    assert found(content) == size


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_file_that_may_be_read_differently_is_not_plain(found, case):
    assert found(NOT_PLAIN[case]) is None

"""CSV files become tables; malformed files raise errors with line and column."""

import gzip
import io

import numpy as np
import pytest

from ffnn_gpu.data.csv_files import read_csv, read_table
from ffnn_gpu.errors import DataError


@pytest.fixture
def csv_file(tmp_path):
    def write(text: str, name: str = "t.csv") -> str:
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(path)

    return write


def test_csv_last_column_is_the_target(csv_file):
    x, y, table = read_csv(csv_file("a,b,c\n1,2,0\n3,4.5,1\n"))
    np.testing.assert_array_equal(x, [[1, 2], [3, 4.5]])
    assert x.dtype == np.float64 and y.tolist() == [0, 1] and y.dtype == np.int64
    assert table.feature_names == ("a", "b") and table.target_name == "c"


@pytest.mark.parametrize("target", ["b", 1, "1"])
def test_csv_target_is_chosen_by_name_or_index(csv_file, target):
    x, y, table = read_csv(csv_file("a,b,c\n1,2,0\n3,4,1\n"), target)
    assert x.tolist() == [[1, 0], [3, 1]] and y.tolist() == [2, 4]
    assert table.feature_names == ("a", "c") and table.target_name == "b"


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        ("1 2", "i", [1, 2]),
        ("1 2.0", "f", [1.0, 2.0]),
        ("-3 1e2", "f", [-3.0, 100.0]),
        ("cat 7", "U", ["cat", "7"]),
        ("9223372036854775807 0", "i", [2**63 - 1, 0]),
        ("nan_ 1", "U", ["nan_", "1"]),
    ],
)
def test_csv_target_kind_follows_its_literals(csv_file, cells, kind, values):
    first, second = cells.split()
    _, y, _ = read_csv(csv_file(f"a,y\n0,{first}\n0,{second}\n"))
    assert y.dtype.kind == kind and y.tolist() == values


def test_csv_may_have_quotes_blank_lines_spaces_and_a_byte_order_mark(csv_file):
    text = '\ufeff"width, cm", "kind"\r\n1.5, "a ""b"", c"\r\n\r\n"2", "two\nlines"\r\n'
    x, y, table = read_csv(csv_file(text))
    assert table.feature_names == ("width, cm",) and table.target_name == "kind"
    assert x.tolist() == [[1.5], [2.0]] and y.tolist() == ['a "b", c', "two\nlines"]


def test_csv_gz_reads_like_csv(csv_file):
    x, y, _ = read_csv(csv_file("a,y\n1,2\n", "t.csv.gz"))
    assert x.tolist() == [[1]] and y.tolist() == [2]


@pytest.mark.parametrize(
    ("text", "target", "has_header"),
    [
        ("a,b\n1,2\n", None, True),
        ("1,2\n3,4\n", None, False),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", None, False),  # UCI's iris.data
        ("0,1,target\n5.1,3.5,0\n", None, True),  # columns numbered by pandas
        ("0,1,kind\n5.1,3.5,setosa\n", "kind", True),
    ],
)
def test_csv_header_is_detected(csv_file, text, target, has_header):
    x, _, table = read_csv(csv_file(text), target)
    assert (table.feature_names is not None) == has_header and len(x) == text.count("\n") - has_header


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", None, "t.csv is empty"),
        ("\n\n", None, "t.csv is empty"),
        ("a,b\n", None, "t.csv has a header and no rows"),
        ("a\n1\n", None, "t.csv has 1 column; it must have features and a target, separated by commas"),
        ("a,b\n1,2\n\n1,2,3\n", None, "t.csv, line 4: 3 fields; the first row has 2"),
        ("a,b\n1,2\n1\n", None, "t.csv, line 3: 1 fields; the first row has 2"),
        ("a,b,c\n1,2,3\n1,red,3\n", None, "t.csv, line 3, column 'b': 'red' is not a finite number"),
        ("a,b,c\n1,NaN,3\n", None, "t.csv, line 2, column 'b': 'NaN' is not a finite number"),
        ("a,b,c\n-inf,1,3\n", None, "t.csv, line 2, column 'a': '-inf' is not a finite number"),
        ("a,b,c\n1,,3\n", None, "t.csv, line 2, column 'b': the cell is empty"),
        ("1,2,3\n1, ,3\n", None, "t.csv, line 2, column 1: the cell is empty"),
        ("NA,2,3\n1,2,3\n", None, "t.csv, line 1, column 0: 'NA' is not a finite number"),
        ("a,b\n1,2\n1,\n", None, "t.csv, line 3, column 'b': the target is empty"),
        ("a,b\n1,2\n1,nan\n", None, "t.csv, line 3: the target 'nan' is not finite"),
        ("age,income\n1,2\n", "incone", "t.csv has no column 'incone'; did you mean 'income'?"),
        ("age,income\n1,2\n", "zzz", "t.csv has no column 'zzz'; columns: age, income"),
        ("a,a,b\n1,2,3\n", "a", "t.csv: 2 columns are called 'a'; use the index of one"),
        ("1,2\n3,4\n", "y", "t.csv has no header, so no column 'y'; use an index, 0 … 1"),
        ("1,2\n3,4\n", 2, "t.csv has no column 2; the columns are 0 … 1"),
        ("1,2\n3,4\n", -1, "t.csv has no column -1; the columns are 0 … 1"),
        ('a,b\n1,"2\n', None, "t.csv, line 2: unexpected end of data"),
        ("a,b\n1," + "9" * 200_000 + "\n", None, "t.csv, line 2: field larger than field limit (131072)"),
    ],
)
def test_csv_error_names_line_and_column(csv_file, text, target, message):
    path = csv_file(text)
    with pytest.raises(DataError) as caught:
        read_csv(path, target)
    assert str(caught.value) == path.removesuffix("t.csv") + message


def test_csv_gz_truncated_at_any_byte_is_refused(csv_file, tmp_path):
    whole = gzip.compress(b"a,b\n1,2\n3,4\n")
    for length in range(len(whole)):
        (tmp_path / "t.csv.gz").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"t\.csv\.gz"):
            read_csv(tmp_path / "t.csv.gz")


def test_error_for_csv_that_is_not_utf8_names_the_file(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,\xff\n")
    with pytest.raises(DataError, match=r"t\.csv cannot be read: UnicodeDecodeError"):
        read_csv(tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"none\.csv cannot be read: FileNotFoundError"):
        read_csv(tmp_path / "none.csv")


def test_csv_gzip_bomb_stops_at_the_cap(csv_file, monkeypatch):
    monkeypatch.setattr("ffnn_gpu.data.csv_files.MAX_BYTES", 1 << 20)
    with pytest.raises(DataError, match="has more than 1048576 characters"):
        read_csv(csv_file("a,b\n" + "1,2\n" * (1 << 19), "bomb.csv.gz"))


def test_reading_of_an_endless_line_stops_at_a_limit(csv_file, monkeypatch):
    monkeypatch.setattr("ffnn_gpu.data.csv_files.MAX_LINE", 1000)
    with pytest.raises(DataError, match="has a line of 1000 characters or more"):
        read_csv(csv_file("1," * 10_000 + "1\n"))


def test_table_reads_every_column_from_a_path_or_a_stream(csv_file):
    for source in (csv_file("a,b\n1,2\n3,4\n"), io.StringIO("\ufeffa,b\n1,2\n3,4\n")):
        matrix, header = read_table(source)
        assert matrix.tolist() == [[1, 2], [3, 4]] and header == ("a", "b")
    matrix, header = read_table(io.StringIO("7\n"))
    assert matrix.tolist() == [[7]] and header is None


def test_table_error_names_the_stream(csv_file):
    with pytest.raises(DataError, match="the table is empty"):
        read_table(io.StringIO(""))
    stream = io.StringIO("1,2\n3,x\n")
    stream.name = "<stdin>"
    with pytest.raises(DataError, match="<stdin>, line 2, column 1: 'x' is not a finite number"):
        read_table(stream)
    with open(csv_file("1\n2\n3,3\n")) as stream, pytest.raises(DataError, match=r"t\.csv, line 3: 2 fields"):
        read_table(stream)

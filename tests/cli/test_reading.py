"""A text file becomes a data set; a malformed one raises an error with its line and column."""

import gzip
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from ffnn_gpu.cli import train
from ffnn_gpu.cli.commands import main
from ffnn_gpu.cli.reading import read_labelled, read_rows, read_training
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.estimators.train_table import train_table
from ffnn_gpu.nn.layers import Dense
from ffnn_gpu.nn.network import Network
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.numbers import numbers_of

pytest.importorskip("duckdb")


@pytest.fixture
def csv_file(tmp_path):
    def write(text: str, name: str = "t.csv") -> str:
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(path)

    return write


def read(path, target=None, **settings):
    return read_training(TrainConfig(data=str(path), target=target, **settings))


def raw(found):
    """Return the numbers of the columns but the targets."""
    x = found.data.x
    return numbers_of(x.table, [column.place for column in found.columns])[x.index].tolist()


def test_last_column_is_the_target(csv_file):
    found = read(csv_file("a,b,c\n1,2,0\n3,4.5,1\n"))
    assert raw(found) == [[1, 2], [3, 4.5]]
    assert found.data.y.tolist() == [0, 1] and found.data.y.dtype == np.int64
    assert found.data.feature_names == ("a", "b") and found.data.target_name == "c"


@pytest.mark.parametrize("target", ["b", 1, "1"])
def test_target_is_chosen_by_name_or_index(csv_file, target):
    found = read(csv_file("a,b,c\n1,2,0\n3,4,1\n"), target)
    assert raw(found) == [[1, 0], [3, 1]] and found.data.y.tolist() == [2, 4]
    assert found.data.feature_names == ("a", "c") and found.data.target_name == "b"


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        ("1 2", "i", [1, 2]),
        ("1.5 2.0", "f", [1.5, 2.0]),
        ("-3.0 100.0", "f", [-3.0, 100.0]),
        ("cat dog", "U", ["cat", "dog"]),
        ("9223372036854775807 0", "i", [2**63 - 1, 0]),
        ("007 7", "U", ["007", "7"]),
    ],
)
def test_kind_of_the_target_follows_its_literals(csv_file, cells, kind, values):
    first, second = cells.split()
    y = read(csv_file(f"a,y\n0,{first}\n0.5,{second}\n")).data.y
    assert y.dtype.kind == kind and y.tolist() == values


def test_text_may_have_quotes_blank_lines_and_a_byte_order_mark(csv_file):
    text = '\ufeff"width, cm","kind"\r\n1.5,"a ""b"", c"\r\n\r\n"2","two\nlines"\r\n'
    found = read(csv_file(text))
    assert found.data.feature_names == ("width, cm",) and found.data.target_name == "kind"
    assert raw(found) == [[1.5], [2.0]] and found.data.y.tolist() == ['a "b", c', "two\nlines"]


@pytest.mark.parametrize("name", ["iris.csv", "iris.CSV", "iris.csv.gz"])
def test_text_file_becomes_a_data_set_with_names(csv_file, name):
    path = csv_file("width,kind,length\n1,a,2\n3,b,4\n", name.replace("CSV", "csv")) if "gz" in name else None
    found = read(path or csv_file("width,kind,length\n1,a,2\n3,b,4\n", name), "kind")
    data = found.data
    assert raw(found) == [[1, 2], [3, 4]] and data.y.tolist() == ["a", "b"]
    assert (data.feature_names, data.target_name, data.name) == (("width", "length"), "kind", "iris")
    assert data.x_test is None and data.y_test is None


@pytest.mark.parametrize(
    ("text", "target", "has_header"),
    [
        ("a,b\n1,2\n3,4\n", None, True),
        ("1,2\n3,4\n", None, False),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", None, False),  # UCI's iris.data
        ("0,1,target\n5.1,3.5,0\n4.9,3.0,1\n", None, True),  # columns numbered by pandas
        ("0,1,kind\n5.1,3.5,setosa\n4.9,3.0,other\n", "kind", True),
    ],
)
def test_header_is_detected(csv_file, text, target, has_header):
    found = read(csv_file(text), target)
    assert found.data.x.table.has_names == has_header
    assert len(found.data.x) == text.count("\n") - has_header


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", None, r"t\.csv is empty"),
        ("\n\n", None, r"t\.csv is empty"),
        ("a,b\n", None, r"t\.csv"),
        ("a,b\n1,2\n\n1,2,3\n", None, r"t\.csv, line 4 has 3 cells; the first row has 2"),
        ("a,b\n1,2\n1\n", None, r"t\.csv, line 3 has 1 cell; the first row has 2"),
        ("age,income\n1,2\n3,4\n", "incone", r"t\.csv has no column 'incone'; did you mean 'income'\?"),
        ("age,income\n1,2\n3,4\n", "zzz", r"t\.csv has no column 'zzz'; the columns are age, income"),
        ("a,a,b\n1,2,3\n", "a", r"t\.csv: several columns are called 'a'"),
        ("1,2\n3,4\n", 2, r"t\.csv has no column '2'"),
        ('a,b\n1,"2\n', None, r"t\.csv, line 2: a quote opens here"),
    ],
)
def test_error_names_the_line_or_the_column(csv_file, text, target, message):
    with pytest.raises(DataError, match=message):
        read(csv_file(text), target)


@pytest.mark.parametrize("bad", ["red", "1_5", "inf", "1e999"])
def test_cell_that_is_no_number_among_numbers_is_named_with_its_line(csv_file, bad):
    rows = [f"{k / 7:.3f},{k % 2}" for k in range(100)]
    rows[41] = f"{bad},1"
    with pytest.raises(
        DataError, match=rf"t\.csv, column 'a': 99 of 100 cells are numbers; line 43 holds '{bad}'"
    ):
        read(csv_file("\n".join(["a,y", *rows]) + "\n"))


def test_row_without_a_target_is_left_out_and_shifts_no_other(csv_file):
    rows = [f"{k},{'' if k % 5 == 2 else k % 2}" for k in range(0, 200, 3)]
    found = read(csv_file("a,y\n" + "\n\n".join(rows) + "\n"), task="binary")
    x = [row[0] for row in raw(found)]
    assert found.data.y.tolist() == [value % 2 for value in x] and all(value % 5 != 2 for value in x)


def test_truncated_gzip_file_is_refused_at_every_byte(csv_file, tmp_path):
    whole = gzip.compress(b"a,b\n1,2\n3,4\n")
    for length in range(len(whole)):
        (tmp_path / "t.csv.gz").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"t\.csv\.gz"):
            read(tmp_path / "t.csv.gz")


def test_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*none\.csv"):
        read(tmp_path / "none.csv")


def test_error_of_standard_input_names_it(monkeypatch):
    import io

    for text, message in (("", "standard input is empty"), ("a,b\n1,2\n3,4,5\n", "standard input, line 3")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        with pytest.raises(DataError, match=message):
            read("-")


def test_columns_are_encoded_from_the_training_rows_only(csv_file):
    rows = [f"{k},{'red' if k < 40 else 'blue'},{k % 2}" for k in range(80)]
    found = read(csv_file("n,color,y\n" + "\n".join(rows) + "\n"), drop=("n",))
    encoding = Encoding.fit(found.data.x.table, found.columns, np.arange(40))
    assert encoding.outputs == ("color is red",)


# ---------------------------------------------------------------- whole commands


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


FAST = ("--hidden", "4", "--epochs", "1", "--device", "numpy", "--quiet")


def test_file_without_a_header_trains_predicts_and_is_evaluated(csv_file, tmp_path):
    text = "".join(f"{k % 3},{k % 7}.5,{'ab'[k % 2]}\n" for k in range(90))
    path = csv_file(text)
    done = run("train", path, *FAST, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    rows = json.loads(run("evaluate", tmp_path / "run", path, "--quiet", "--json").output)["rows"]
    assert rows == 90
    inputs = tmp_path / "new.csv"
    inputs.write_text("0,1.5\n1,2.5\n2,0.5\n", encoding="utf-8")
    assert len(run("predict", tmp_path / "run", inputs, "--quiet").output.splitlines()) == 4


def test_several_labels_of_words_are_evaluated_as_they_were_trained(csv_file, tmp_path):
    path = csv_file(
        "x,p,q\n" + "".join(f"{k}.5,{'yes' if k % 2 else 'no'},{'ny'[k % 3 > 0]}\n" for k in range(90))
    )
    done = run("train", path, *FAST, "--target", "p,q", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    found = run("evaluate", tmp_path / "run", path, "--quiet", "--json")
    assert found.exit_code == 0 and json.loads(found.output)["rows"] == 90


def test_whole_targets_with_a_decimal_comma_are_read(csv_file, tmp_path):
    path = csv_file("x;y\n" + "".join(f"0,{k:03};{k % 4},0\n" for k in range(100)))
    done = run("train", path, *FAST, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output


def test_inspect_reads_a_source_as_train_does(csv_file):
    path = csv_file("".join(f"{k},{'ab'[k % 2]}\n" for k in range(40)))
    assert "no header" in run("inspect", path, "--no-header").output
    found = run("inspect", "--query", f"SELECT * FROM read_csv('{path}')")
    assert found.exit_code == 0, found.output


def test_years_are_names_although_they_are_digits(csv_file, tmp_path):
    path = csv_file("2019,2020,y\n" + "".join(f"{k % 5},{k % 3},{'ab'[k % 2]}\n" for k in range(60)))
    assert run("train", path, *FAST, "--out", tmp_path / "run").exit_code == 0
    (tmp_path / "new.csv").write_text("2019,2021\n0,1\n1,0\n", encoding="utf-8")
    done = run("predict", tmp_path / "run", tmp_path / "new.csv")
    assert (
        done.exit_code == 3 and "lacks these columns, which the model was trained on: '2020'" in done.output
    )


def test_new_rows_have_the_decimal_sign_of_the_training_table_where_they_leave_it_open(csv_file, tmp_path):
    rows = "".join(f"{k}.234;0,5{k};{k % 2}\n" for k in range(1, 10)) * 9
    model = train.train(
        TrainConfig(data=csv_file(f"a;b;y\n{rows}"), epochs=1, out=str(tmp_path / "run"), device="numpy")
    ).model
    for text, decimal in (("a;b\n1.234;1\n", ","), ("a;b\n1.234;1.5\n", "."), ("a,b\n1.234,1\n", ".")):
        assert read_rows(csv_file(text, "new.csv"), model).x.table.decimal == decimal
    said = read_rows(csv_file("a;b\n1.234;1\n", "new.csv"), model).x.table.remarks
    assert "'1.234' is read with thousands (--decimal '.' reads a decimal number)" in said
    assert Encoding.from_json(model.encoding.to_json()) == model.encoding and model.encoding.decimal == ","


def test_target_of_a_model_that_was_trained_on_arrays_must_be_named(csv_file):
    """Without this, the last column would be compared with what the model predicts."""
    network = Network(1, [Dense(1)], "numpy")
    model = Model(network, Task("regression", 1, "mean_squared_error"), feature_names=("a",))
    path = csv_file("a,price,last\n1,10,3\n2,20,9\n")
    with pytest.raises(ConfigurationError, match="give --target"):
        read_labelled(path, None, model)
    assert read_labelled(path, "price", model)[2].ravel().tolist() == [10, 20]
    named = replace(model, target_name="price")
    assert read_labelled(path, None, named)[2].ravel().tolist() == [10, 20]


@pytest.mark.parametrize("kind", ["folder", "file", "pipe"])
def test_name_of_a_bundled_set_is_no_table(kind, tmp_path, monkeypatch):
    """`./iris` names what lies there."""
    monkeypatch.chdir(tmp_path)
    iris = tmp_path / "iris"
    if kind == "folder":
        iris.mkdir()
        (iris / "a.csv").write_text("u,v\n1,a\n2,b\n3,a\n4,b\n")
    else:
        iris.touch() if kind == "file" else os.mkfifo(iris)
    found = read("iris")
    assert found.table is None and found.data.x.shape == (150, 4)
    network = Network(4, [Dense(3)], dtype="float64")
    model = Model(network, Task.of(found.data.y), data="iris")
    assert read_rows("iris", model).x.shape == (150, 4) and len(read_labelled("iris", None, model)[1]) == 150
    assert "iris is no table" in CliRunner().invoke(main, ["inspect", "iris"]).output
    with pytest.raises(DataError, match="iris is no table"):
        train_table("iris", "v")
    if kind == "folder":
        assert read("./iris").table is not None

"""Messages of the estimators name their arguments, or what to do to X, and no option of the command."""

import re
from pathlib import Path

import numpy as np
import pytest

import ffnn_gpu
from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.settings import FIELDS
from ffnn_gpu.estimators.wording import in_estimators, in_python
from ffnn_gpu.tables import times
from ffnn_gpu.tables.cells import option_value, option_values

pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")
pytest.importorskip("duckdb")

TABLES = Path(ffnn_gpu.__file__).parent / "tables"
# files whose messages an estimator can receive: those about columns of a frame
OF_FRAMES = ("cells", "concerns", "kinds", "mixed_numbers", "row_ids", "times", "typed_columns", "words")
RNG = np.random.default_rng(0)
N = 60
X = RNG.normal(size=N).round(3)
Y = RNG.choice(["a", "b"], N)


ERRORS = {
    "a bad cell": (
        [*map(str, X[:-1]), "12 kg"],
        "row 59 holds '12 kg'. If that means a missing cell, write None instead; if the column holds "
        r"categories, use categorical_features=\['t'\]",
    ),
    "signs": (
        [f"{abs(x)} €" for x in X], r"Write plain numbers, or use categorical_features=\['t'\] or leave",
    ),
    "zones": (
        [f"2024-01-{1 + k % 28:02d}T00:00:00{'Z' * (k > 55)}" for k in range(N)], "or leave the column out",
    ),
}  # fmt: skip
WARNINGS = {
    "mixed": (
        [*map(str, X[:40]), *(f"no {k}" for k in range(N - 40))],
        "write None instead; to require numbers, convert the column; if they are categories, "
        r"categorical_features=\['t'\]",
    ),
    "units": ([f"{abs(x)} kg" for x in X], r"categorical_features=\['t'\] or leave the column out"),
    "dates": (
        [f"{1 + k % 5:02d}/{1 + k % 7:02d}/2024" for k in range(N)],
        "a column of dates instead of texts decides",
    ),
    "thousands": ([f"{1 + k},{100 + k}" for k in range(N)], "is a decimal sign, convert the column"),
}


def estimators():
    return {
        "tabular": ffnn_gpu.TabularClassifier("fast", random_state=0),
        "multilayer perceptron": ffnn_gpu.MLPClassifier((4,), max_iter=1, random_state=0),
    }


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("name", estimators())
def test_errors_of_estimators_name_no_option(name, case):
    cells, message = ERRORS[case]
    with pytest.raises(DataError, match=message) as raised:
        estimators()[name].fit(pd.DataFrame({"t": cells, "x": X}), Y)
    assert "--" not in str(raised.value) and "ffnn-gpu" not in str(raised.value)


@pytest.mark.parametrize("case", WARNINGS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_warnings_of_estimators_name_no_option(case, monkeypatch):
    def stop(*given, **named):
        raise InterruptedError

    monkeypatch.setattr("ffnn_gpu.estimators.tabular.estimator.train_ensemble", stop)  # after the warnings
    cells, message = WARNINGS[case]
    fitted = estimators()["tabular"]
    with pytest.raises(InterruptedError):
        fitted.fit(pd.DataFrame({"t": cells, "x": X}), Y)
    said = " ".join([*fitted.warnings_, *fitted.left_out_.values()])
    assert re.search(message, said), said
    assert "--" not in said and "ffnn-gpu" not in said


def phrases_in(path):
    """Return each option that a string in a source file names, with a value as messages write it."""
    text = re.sub(r'"""(.|\n)*?"""', "", path.read_text(encoding="utf-8"))
    found = re.findall(r"(?:use )?--[a-z][a-z-]+(?: \{[^}]*\}| ,| balanced| names it)?", text)
    return {re.sub(r"\{[^}]*\}", "'a b'", phrase) for phrase in found}


def test_every_option_in_messages_about_frames_has_other_words():
    """A message with an option that this test finds needs a line in REMEDIES."""
    found = {phrase for name in OF_FRAMES for phrase in phrases_in(TABLES / f"{name}.py")}
    # in a sentence of its own, and in one about an order that estimators cannot be given
    found -= {"--day-first", "--month-first", "use --missing"}
    assert len(found) >= 9
    assert [phrase for phrase in sorted({*found, times.OPTIONS}) if "--" in in_estimators(phrase)] == []


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("use --categorical 'a b'", "use categorical_features=['a b']"),
        ("use --categorical 'x,\"y,z\"'. The same", "use categorical_features=['x', 'y,z']. The same"),
        ("use --categorical a.b; or", "use categorical_features=['a.b']; or"),
        ("row 1 holds '--drop x'. Use it", "row 1 holds '--drop x'. Use it"),
        ("use --missing 12.5,x; to", "write None instead; to"),
    ],
)
def test_values_of_options_are_read_as_a_shell_reads_them(message, said):
    assert in_estimators(message) == said


def test_every_setting_is_an_argument_in_python():
    for name in FIELDS:
        assert in_python(f"use --{name.replace('_', '-')} x").startswith(f"use {name}")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("a missing cell, use --missing '12 kg'; if", "a missing cell, use missing=['12 kg']; if"),
        ("use --categorical a or --drop a", "use categorical=['a'] or drop=['a']"),
        ("use --number 'x,\"y,z\"'. The same", "use number=['x', 'y,z']. The same"),
        ("use --categorical names or --drop names", "use categorical=['names'] or drop=['names']"),
        ("--categorical names it", "categorical names it"),
        ("use --missing for them, or", "use missing for them, or"),
        ("(--task multiclass changes it)", "(task='multiclass' changes it)"),
        ("(--decimal ',' reads thousands)", "(decimal=',' reads thousands)"),
        ("sign, use --decimal ,", "sign, use decimal=','"),
        ("--class-weight balanced weighs", "class_weight='balanced' weighs"),
        ("row 1 holds '--drop x'. Use it", "row 1 holds '--drop x'. Use it"),
    ],
)
def test_values_of_options_become_those_of_arguments(message, said):
    assert in_python(message) == said


@pytest.mark.parametrize("name", ["a,b", "a\nb", "a\r\n", 'a "b"', "it's", "'\"", "a;b", "$(x)", "a b", "."])
def test_names_with_signs_of_their_own_survive_messages(name):
    assert in_python(f"use --categorical {option_value(name)}; or") == f"use categorical={[name]}; or"
    assert (
        in_estimators(f"use --categorical {option_value(name)} or") == f"use categorical_features={[name]} or"
    )
    assert "--" not in in_estimators(f"use --drop {option_value(name)}")
    values = (name, "x")
    assert in_python(f"use --missing {option_values(values)}. The") == f"use missing={[*values]}. The"

"""A page about several runs begins with what differs, and warns of what cannot be compared."""

from dataclasses import replace

import pytest

from ffnn_gpu.report import comparison_page
from ffnn_gpu.report.findings import Score, Setting
from tests.report.reader import exact, read, rows, section


@pytest.fixture
def pair(findings):
    """Return two runs of the same data that differ in a setting and in their scores."""
    first = findings["two"]
    settings = tuple(
        Setting(each.name, "0.5", False) if each.name == "lr" else each for each in first.settings
    )
    scores = tuple(replace(score, value=score.value / 2) for score in first.scores)
    return first, replace(first, name="other <b>", settings=settings, scores=scores)


def test_differences_come_first_and_are_complete(pair):
    tree = read(comparison_page(pair))
    first = tree.all("main")[0].all("section")[0]
    assert first.attributes["id"] == "differences"
    assert rows(first.all("table")[0]) == [["setting", "two", "other <b>"], ["lr", "0.02", "0.5"]]


def test_best_run_is_the_one_with_the_better_metric(pair):
    grid = section(read(comparison_page(pair)), "results").all("table")[0]
    marked = {
        row.children[0].text: ["best" in cell.text for cell in row.children[1:]] for row in grid.all("tr")
    }
    assert marked["accuracy"] == [True, False] and marked["loss"] == [False, True]
    values = {row.children[0].text: exact(row) for row in grid.all("tr")}
    assert values["accuracy"] == [run.scores[0].value for run in pair]


def test_equal_runs_have_no_best(pair):
    tree = read(comparison_page([pair[0], replace(pair[0], name="again")]))
    assert "best" not in section(tree, "results").text
    assert "same settings and the same environment" in section(tree, "differences").text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": "another"}, "the data"),
        ({"target": "another"}, "the target"),
        ({"rows": (("test", 5),)}, "the number of test rows"),
        ({"checksum": "another"}, "the cells of the data"),
    ],
)
def test_runs_with_other_test_rows_are_not_compared_silently(pair, change, reason):
    first, other = pair
    calm, warned = (
        section(read(comparison_page([first, each])), "results").text
        for each in (other, replace(other, **change))
    )
    assert "same test rows" in calm and f"The runs differ in {reason}. Their metrics may not" in warned
    assert "best" in calm and "best" not in warned


def test_importances_name_their_error(pair):
    first, other = pair
    tested = replace(other.tested, importance=replace(other.tested.importance, metric="rmse"))
    for second, said in ((other, "is 1 − accuracy"), (replace(other, tested=tested), "rmse of \u2068other")):
        assert said in section(read(comparison_page([first, second])), "importance").text


def test_score_that_one_run_lacks_is_a_dash(pair):
    first, other = pair
    other = replace(other, scores=(Score("roc_auc", 0.75, None, False),))
    grid = section(read(comparison_page([first, other])), "results").all("table")[0]
    cells = {row[0]: row[1:] for row in rows(grid)}
    assert cells["roc auc"] == ["–", "0.7500"] and cells["accuracy"][1] == "–"


def test_whole_runs_follow_up_to_eight(pair):
    tree = read(comparison_page([replace(pair[0], name=f"r{k}") for k in range(9)]))
    keys = [each.attributes["id"] for each in tree.all("section")]
    assert "run8-worst" in keys and "run9" not in keys and "others" in keys


def test_curves_of_the_runs_share_charts(pair):
    part = section(read(comparison_page(pair)), "training")
    titles = [node.text for node in part.all("strong")]
    assert titles == ["Loss, validation", "Validation accuracy", "Learning rate"]
    for figure in part.all("figure"):
        assert [item.text.strip("\u2068\u2069") for item in figure.all("li")] == ["two", "other <b>"]

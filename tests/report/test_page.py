"""Pages of every kind of run are well formed, accessible and harmless, and say what result.json says."""

import re
from itertools import pairwise

import pytest

from ffnn_gpu.report import comparison_page
from ffnn_gpu.report.sections import rows_called
from tests.report.reader import exact, read, rows, section
from tests.report.runs import HOSTILE, KINDS, LABELS, result_of

ALLOWED = {"http-equiv", "href", "style"}  # attributes that could lead somewhere or run something
ADDRESS = re.compile(r"https?:|//|url\s*\(|@import|javascript:|data:", re.I)


@pytest.fixture(scope="module")
def trees(pages, findings):
    """Return the tree of each page; that of all runs together is called "comparison"."""
    whole = comparison_page([*findings.values()][:4])
    return {kind: read(page) for kind, page in pages.items()} | {"comparison": read(whole)}


EVERY = pytest.mark.parametrize("kind", [*KINDS, "comparison"])


@EVERY
def test_headings_are_in_order(trees, kind):
    levels = [int(node.name[1]) for node in trees[kind].all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@EVERY
def test_figures_and_tables_have_names(trees, kind):
    for figure in trees[kind].all("figure"):
        assert figure.all("figcaption")[0].all("strong")[0].text
        (drawing,) = [svg for svg in figure.all("svg") if not svg.within("figcaption")]
        assert drawing.attributes["role"] == "img" and drawing.attributes["aria-label"]
        assert drawing.all("title")[0].text
    for table in trees[kind].all("table"):
        assert table.all("caption")[0].text
        assert all(th.attributes["scope"] == "col" for th in table.all("thead")[0].all("th"))
        assert all(
            row.children[0].attributes.get("scope") == "row" for row in table.all("tbody")[0].all("tr")
        )
        assert {len(row.children) for row in table.all("tr")} == {len(table.all("tr")[0].children)}


@EVERY
def test_page_loads_nothing_and_runs_nothing(trees, kind):
    tree = trees[kind]
    assert not tree.all("script", "link", "img", "iframe", "object", "embed", "base", "form")
    every = tree.all(*{node.name for node in _below(tree)})
    for node in every:
        assert not [name for name in node.attributes if name.startswith("on") or name in ("src", "srcset")]
        for name in ALLOWED & {*node.attributes}:
            assert not ADDRESS.search(node.attributes[name] or ""), node.attributes
    assert not ADDRESS.search(tree.all("style")[0].text)
    policy = next(m.attributes for m in tree.all("meta") if "http-equiv" in m.attributes)
    assert policy["content"].startswith("default-src 'none'; style-src 'unsafe-inline'")


def _below(node):
    for child in node.children:
        if not isinstance(child, str):
            yield child
            yield from _below(child)


@EVERY
def test_links_lead_to_parts_of_the_page_and_names_are_unique(trees, kind):
    names = [node.attributes["id"] for node in _below(trees[kind]) if "id" in node.attributes]
    assert len(names) == len({*names})
    links = [node.attributes["href"] for node in trees[kind].all("a")]
    assert links[0] == "#content" and {link[1:] for link in links} <= {*names}
    for node in _below(trees[kind]):
        assert node.attributes.get("aria-labelledby", names[0]) in names


@pytest.mark.parametrize("kind", KINDS)
def test_page_is_small(pages, kind):
    assert len(pages[kind].encode("utf-8")) < 400_000


def test_hostile_names_are_shown_as_they_are(trees):
    text = trees["two"].text
    assert HOSTILE in text and "a<b>&" in text and "<i>kind</i>" in text
    assert all(label in text for label in LABELS)
    names = [node.text for node in trees["two"].all("bdi")]
    assert "<i>kind</i>" in names and LABELS[1] in names


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "killed"])
def test_numbers_are_those_of_the_result(trees, runs, kind):
    result = result_of(runs / kind)
    found = section(trees[kind], "results")
    grid = found.all("table")[0]
    values = {row.children[0].text.replace(" ", "_"): exact(row) for row in grid.all("tbody")[0].all("tr")}
    baseline = result["baseline"] or {}
    assert values == {
        name: [value, *([baseline[name]] if name in baseline else [])]
        for name, value in result["test"].items()
    }
    counts = dict(zip([n.text for n in found.all("dt")], found.all("dd"), strict=True))
    shown = {part: n for part, n in result["rows"].items() if n or "ensemble" not in result}
    named = {part: counts.get(rows_called(part)) for part in result["rows"]}  # an ensemble validates in folds
    assert {part: exact(node)[0] for part, node in named.items() if node} == shown


def test_matrix_of_classes_adds_up_to_the_accuracy_of_the_result(findings, runs):
    for kind in ("two", "fifty", "npy", "ensemble"):
        found, result = findings[kind].tested, result_of(runs / kind)
        counts = found.confusion.counts
        assert sum(map(sum, counts)) == found.rows == result["rows"]["test"]
        assert found.confusion.right == round(result["test"]["accuracy"] * found.rows)


def test_large_matrix_is_cut_and_says_so(trees):
    part = section(trees["fifty"], "confusion")
    grid = rows(part.all("table")[0])
    assert len(grid) == 13 and grid[0][-1] == grid[-1][0] == "39 others"
    assert "There are 50 classes. Shown are the 11 with the most errors." in part.text


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("two", "confusion calibration importance worst"),
        ("labels", "labels calibration importance worst"),
        ("prices", "residuals intervals importance worst"),
        ("killed", "residuals intervals importance worst"),
    ],
)
def test_page_has_these_parts(trees, kind, keys):
    found = [each.attributes["id"] for each in trees[kind].all("main")[0].all("section")]
    first, last = ["results", "columns", "training"], ["costs", "settings", "environment", "commands"]
    assert found == [*first, *keys.split(), *last]


def test_run_without_its_data_says_what_it_lacks(trees, findings):
    text = section(trees["gone"], "missing").text
    assert "everything about test rows" in text and "no-such.csv" in text
    assert findings["gone"].tested is None and findings["gone"].scores == findings["two"].scores
    treatments = {each.name: each.treatment for each in findings["gone"].columns}
    assert treatments == {each.name: each.treatment for each in findings["two"].columns}


def test_run_that_was_killed_has_the_numbers_of_its_last_checkpoint(findings):
    killed, whole = findings["killed"], findings["several"]
    assert not killed.is_complete and killed.status.startswith("Not finished")
    assert [score.value for score in killed.scores] == pytest.approx([score.value for score in whole.scores])
    assert killed.commands[0][1] == "ffnn-gpu train --resume --out killed"
    assert len(killed.panels[0].lines[0].x) == 2


def test_targets_have_a_figure_each(trees):
    titles = [node.text for node in section(trees["several"], "residuals").all("strong")]
    whats = ("predicted against true", "predicted − true")
    assert titles == [f"\u2068{target}\u2069: {what}" for target in "uv" for what in whats]


def test_members_of_an_ensemble_have_curves(findings):
    found = findings["ensemble"]
    assert [line.label for line in found.panels[0].lines] == ["linear", "two layers"]
    assert sum(y == y for y in found.panels[0].lines[0].y) == 3 * 4
    assert {recipe.name for recipe in found.ensemble.recipes} == {"linear", "two layers"}

"""A space holds what a search begins with, and its parameters stand for settings."""

import pytest

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.tuning import Choices, Multiples, Numbers, Space
from ffnn_gpu.estimators.tuning.space import distributions_of, parameters_of, searched, settings_of

pytest.importorskip("optuna")

START = {
    "hidden": (512, 256), "activation": "relu", "normalization": "none", "dropout": 0.4, "lr": 0.003,
    "weight_decay": 1.0, "batch_size": 64,
}  # fmt: skip


@pytest.mark.parametrize(
    "hidden", [(512, 256), (64,), (100, 100, 100), (448, 224, 112, 56), (4, 4), (4,), (20, 10, 8)], ids=str
)
def test_widths_that_are_equal_or_halve_are_parameters_and_back(hidden):
    begin = parameters_of({"hidden": hidden}, ["hidden"])
    assert settings_of(begin) == {"hidden": hidden}


def test_no_layer_is_narrower_than_eight():
    assert settings_of({"depth": 4, "width": 32, "halving": True}) == {"hidden": (32, 16, 8, 8)}


@pytest.mark.parametrize("hidden", [(), (64, 32, 20), (32, 64)], ids=str)
def test_other_widths_cannot_begin_a_search(hidden):
    with pytest.raises(ConfigurationError, match="a search of hidden cannot begin with"):
        parameters_of({"hidden": hidden}, ["hidden"])


def test_default_space_holds_the_default_settings_unchanged():
    begin = parameters_of(START, Space().settings())
    assert settings_of(begin) == START
    for name, distribution in distributions_of(Space(), begin).items():
        assert distribution._contains(distribution.to_internal_repr(begin[name]))


@pytest.mark.parametrize(
    ("name", "bounds", "begin", "ends"),
    [
        ("lr", Multiples(0.1, 10), 0.02, (0.002, 0.2)),
        ("lr", Numbers(1e-4, 1e-2, log=True), 0.5, (1e-4, 0.5)),
        ("lr", Numbers(1e-4, 1e-2, log=True), 1e-6, (1e-6, 1e-2)),
        ("dropout", Numbers(0.1, 0.3), 0.2, (0.1, 0.3)),
        ("width", Numbers(64, 512, step=64), 100, (64, 512)),
        ("width", Numbers(64, 512, step=64), 1024, (64, 1024)),
        ("depth", Numbers(1, 4, step=1), 6, (1, 6)),
    ],
)
def test_range_is_widened_to_hold_the_beginning(name, bounds, begin, ends):
    (distribution,) = distributions_of(Space(**{name: bounds}), {name: begin}).values()
    assert (distribution.low, distribution.high) == pytest.approx(ends)
    assert distribution._contains(distribution.to_internal_repr(begin))


def test_choices_are_widened_and_keep_their_order():
    (distribution,) = distributions_of(Space(batch_size=Choices((32, 64))), {"batch_size": 48}).values()
    assert distribution.choices == (32, 64, 48)


def test_weight_decay_that_an_optimizer_lacks_is_not_searched():
    assert distributions_of(Space(), {"weight_decay": 0, "dropout": 0}).keys() == {"dropout"}


@pytest.mark.parametrize("bounds", [Numbers(0.5, 0.1), Numbers(0, 0.1, log=True)], ids=str)
def test_empty_range_is_refused(bounds):
    with pytest.raises(ConfigurationError, match=r"space: dropout goes from"):
        distributions_of(Space(dropout=bounds), {"dropout": 0.05})


def test_given_settings_are_not_searched_unless_asked_for():
    everything = Space().settings()
    assert everything[0] == "hidden" and {*everything} == {*START}
    assert searched(Space(), None, ["lr", "epochs"]) == tuple(name for name in everything if name != "lr")
    assert searched(Space(), ["dropout", "lr"], ["lr"]) == ("dropout", "lr")
    assert searched(Space(lr=None), None, ()) == tuple(name for name in everything if name != "lr")


@pytest.mark.parametrize(
    ("wanted", "given", "message"),
    [
        (["dropuot"], (), "search: 'dropuot' has no range; did you mean 'dropout'"),
        (["epochs"], (), "search: 'epochs' has no range; .*there are hidden"),
        ([], (), "search names no setting"),
        (None, [*START], "every setting that can be searched is given: hidden"),
    ],
)
def test_nothing_to_search_is_refused(wanted, given, message):
    with pytest.raises(ConfigurationError, match=message):
        searched(Space(), wanted, given)


def test_parts_of_hidden_are_searched_together():
    with pytest.raises(ConfigurationError, match="depth, width and halving are searched together"):
        Space(depth=None)
    assert "hidden" not in Space(depth=None, width=None, halving=None).settings()

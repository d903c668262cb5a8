"""Links of the pages name a definition, `file.py#NAME`, because line numbers change with every edit."""

import re
from pathlib import Path

import pytest

from docs.extensions.symbols import locate
from ffnn_gpu import layers, schedules
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.nn.losses.standard import LOSSES
from ffnn_gpu.optim.choice import OPTIMIZERS
from tests.mathematics.pages import PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_to_code_leads_to_the_definition_of_its_text(page: Path) -> None:
    links = re.findall(r"\[`([^`]+)`\]\(([^)#]+\.py)(?:#([\w.]+))?\)", page.read_text(encoding="utf-8"))
    assert len(links) >= 10
    for text, path, symbol in links:
        file = (page.parent / path).resolve()
        if not symbol:
            assert file.is_file() and file.name == text, text
            continue
        assert text == symbol and locate(file, symbol)[0] == file, (text, symbol)


def test_every_activation_loss_layer_and_update_rule_is_on_the_pages() -> None:
    linked = {
        symbol for page in PAGES for symbol in re.findall(r"\.py#(\w+)", page.read_text(encoding="utf-8"))
    }
    rules = {name for name in OPTIMIZERS if name != "adamw"}
    kinds = {name for module in (layers, schedules) for name in module.__all__ if name[0].isupper()}
    assert ({*ACTIVATIONS, *LOSSES, *rules} | kinds) - linked == {"Layer", "Schedule"}

"""Formulas in LaTeX → MathML, by docutils itself: no script and no network in the browser."""

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def mathml(node: nodes.Node, as_block: bool) -> str:
    """Return the MathML of a formula; warn and show the LaTeX if it cannot be read."""
    try:
        return str(tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        LOGGER.warning("this formula cannot be read: %s", error, location=node)
        return f"<code>{node.astext()}</code>"


def inline(self: Any, node: nodes.math) -> None:
    """Write a formula within a sentence."""
    self.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    """Write a formula of its own line; wide ones scroll."""
    self.body.append(f'<div class="formula" tabindex="0">{mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Connect the renderer to Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

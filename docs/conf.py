"""Settings of Sphinx for the site; `scripts/docs.py` builds it. Its source folder is the repository."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ffnn_gpu
from docs.extensions.source_links import of_object

project = "ffnn_gpu"
release = version = ffnn_gpu.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.linkcode",
    "docs.extensions.mathml",
    "docs.extensions.navigation",
    "docs.extensions.reference",
    "docs.extensions.source_links",
]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md"]
exclude_patterns = [".*", "**/.*", "build", "dist", "runs", "**/node_modules"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "mailto": None, "source": None}

autodoc_default_options = {"member-order": "bysource"}
autodoc_inherit_docstrings = False  # a layer repeats nothing of the contract of all layers
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"
linkcode_resolve = of_object

highlight_language = "none"

templates_path = ["templates"]
html_theme = "pydata_sphinx_theme"
html_title = f"ffnn_gpu {release}"
html_static_path = ["static"]
html_favicon = "static/icon.svg"
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_math_renderer = "mathml"
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
html_context = {"default_mode": "auto"}
html_sidebars = {"**": ["navigation.html"]}
html_theme_options = {
    "logo": {"text": "ffnn_gpu"},
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": [],
    "footer_end": [],
}

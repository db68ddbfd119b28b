"""Sphinx: `sphinx-build -W docs docs/_build` after `pip install -e ".[docs]"`."""

from hgq import __version__

project = "hgqc"
author = "the hgqc maintainers"
version = release = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"hgqc {__version__}"
exclude_patterns = ["_build"]

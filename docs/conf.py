"""Sphinx configuration: ``sphinx-build -W -b html docs docs/_build``."""

import sys
from pathlib import Path

import automl_nas

sys.path.insert(0, str(Path(__file__).parent))  # for api_pages

project = "automl_nas"
author = "The automl_nas developers"
project_copyright = "The automl_nas developers"
version = release = automl_nas.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "api_pages"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"automl_nas {release}"
default_role = "code"
smartquotes = False  # "--set" is an option, not a dash
autodoc_member_order = "bysource"
napoleon_use_ivar = True
nitpicky = True
# Annotations name private modules, torch and typing, for which there are no pages. Links between pages are checked.
nitpick_ignore_regex = [("py:.*", r".*")]
suppress_warnings = ["ref.python"]

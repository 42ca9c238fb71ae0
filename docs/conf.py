"""Sphinx configuration: ``sphinx-build -W -b html docs docs/_build``."""

import automl_nas

project = "automl_nas"
author = "The automl_nas developers"
project_copyright = "The automl_nas developers"
version = release = automl_nas.__version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"automl_nas {release}"
nitpicky = True

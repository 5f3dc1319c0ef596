"""Sphinx configuration. The build needs no network: no inventories, no fonts, no scripts."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pool"
author = "The pool authors"
copyright = author
release = importlib.metadata.version("ray-actor-pool")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "lifecycle_diagram",
    "lifecycle_table",
    "vocabulary_table",
]
exclude_patterns = ["_build", "_ext"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Types in signatures: what they name, of Python and of ours inside, has no page here.
nitpick_ignore_regex = [("py:class", ".*"), ("py:obj", r"pool\..*T")]

autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "pool"

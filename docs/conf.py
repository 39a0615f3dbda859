"""Configuration of the documentation: `make docs` builds it."""

import os
from importlib.metadata import version as installed_version

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the examples: small matrices, one thread

project = "ftnn"
author = "The ftnn developers"
copyright = "The ftnn developers"
release = version = installed_version("ftnn")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples"]

# The scripts of examples/ are run, and shown with their figures; one that fails breaks the build.
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "within_subsection_order": "ExampleTitleSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "matplotlib_animations": False,
    "image_srcset": ["2x"],
    "remove_config_comments": True,
    "copyfile_regex": "",
    "plot_gallery": True,
}

# Pages are MyST Markdown: $...$ and $$...$$ are mathematics, ::: fences are directives.
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Docstrings follow numpydoc; quimb's own docstrings are not repeated for what ftnn overrides.
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"

# Pages test their {doctest} and {testcode} blocks here; pytest runs the examples of docstrings.
doctest_test_doctest_blocks = ""

html_theme = "furo"
html_title = "ftnn"

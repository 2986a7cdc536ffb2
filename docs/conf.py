"""Configuration of Sphinx."""

import os
import sys
from pathlib import Path

import django

import orgrealtime

sys.path.insert(0, str(Path(__file__).parent.parent / "example_project"))
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

project = "orgrealtime"
author = "orgrealtime contributors"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx's name
version = release = orgrealtime.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "code"  # docstrings set names in single backticks
nitpicky = True
nitpick_ignore = [("py:class", "orgrealtime.commands.H")]  # a type variable
# Names of others would need their inventories, and so the network, at every build.
nitpick_ignore_regex = [("py:.*", r"(?!orgrealtime\b).*")]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"orgrealtime {release}"

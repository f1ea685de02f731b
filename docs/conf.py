"""Sphinx configuration. Builds without a network; ``-t online`` links to other packages' documentation."""

import os
import re
import sys
import tomllib
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("OMP_NUM_THREADS", "2")

# torch-geometric still scripts a class while it is imported; nothing of ours is scripted.
warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated")

_pyproject = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

from docs.card_pages import linked, write_cards  # noqa: E402 - found by the path above
from docs.example_pages import gallery_conf, stage  # noqa: E402

project = _pyproject["name"]
author = "The anatozoo authors"
copyright = f"2026, {author}"
version = release = _pyproject["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "evidence"]
templates_path = ["_templates"]
default_role = "py:obj"  # `name` in a docstring links to it, or is plain code where it is no object

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"anatozoo {release}"
html_static_path = ["_static"]
html_css_files = ["anatozoo.css"]

sphinx_gallery_conf = gallery_conf(stage(HERE / "_build" / "examples"))

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures stay readable; shapes, units and ranges are in the text
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Every reference must resolve. Names of other packages resolve only online, so they are exempt offline.
nitpicky = True
if tags.has("online"):  # type: ignore[name-defined]  # noqa: F821 - Sphinx puts `tags` here
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "lightning": ("https://lightning.ai/docs/pytorch/stable", None),
    }
else:
    intersphinx_mapping = {}
# `name` marks code in docstrings; only what starts with the package's name claims to be a link.
nitpick_ignore_regex = [
    (r"py:obj", r"(?!anatozoo\.).*"),
    (
        r"py:.*",
        r"(torch|lightning|numpy|pandas|PIL|SimpleITK|pydicom|matplotlib|torchmetrics|pathlib|collections)\..*",
    ),
    (r"py:exc|py:class", r"(?!anatozoo\.).*"),
    # Type variables and aliases have no entry of their own.
    (r"py:.*", r"anatozoo\.serve\.(tasks\.(Item|Result)|plan\.Source|volumes\.VolumeAnswer(_co)?)"),
    (r"py:.*", r"anatozoo\.tasks\.(base|images)\.Answer"),
]


def _skip_inherited_from_lightning(app, what, name, obj, skip, options):
    """Leave out what Lightning and torch define: their documentation is theirs."""
    module = getattr(obj, "__module__", "") or ""
    return True if re.match(r"(lightning|torch|torchmetrics)(\.|$)", module) else None


def _write_cards(app):
    """Make the pages of the cards."""
    write_cards(HERE / "cards")


def _lead_to_pages(app, name, source):
    """Links to cards and examples in the repository become links to their pages."""
    source[0] = linked(source[0])


def setup(app):
    app.connect("builder-inited", _write_cards)
    app.connect("source-read", _lead_to_pages)
    app.connect("autodoc-skip-member", _skip_inherited_from_lightning)

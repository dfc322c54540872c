"""The documentation site: the pages of this folder, and a reference that is made of the docstrings.

Invariant: no page loads anything from the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pygments.lexers.special import TextLexer
from sphinx.ext.autodoc.mock import mock

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "entropyd"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

html_theme = "furo"
html_title = "entropyd"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_domain_indices = False

# Anchors as forges give them to headings, so that links lead to the same places there and here.
myst_heading_anchors = 4

# The frameworks of the drop-ins are not loaded to read docstrings. The setting `autodoc_mock_imports` ends
# before the signatures of base classes are read, and so would load those that are installed.
_frameworks = mock(["compressai", "tensorflow", "tensorflow_compression", "torch"])
_frameworks.__enter__()

autodoc_default_options = {
    "members": True,
    "inherited-members": "BaseException,tuple",
    "member-order": "bysource",
}
napoleon_use_ivar = True
autodoc_class_signature = "mixed"
autodoc_typehints = "none"  # docstrings have shapes and dtypes, of which types say nothing
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
toc_object_entries = False
smartquotes_action = "D"  # of the dashes in lists of parameters
default_role = "code"


def without_module_docstrings(
    _app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Drops what modules say to readers of their source: each page has its own first sentence."""
    if what == "module":
        lines.clear()


def setup(app: Sphinx) -> None:
    """Adds what has no setting."""
    app.connect("autodoc-process-docstring", without_module_docstrings)
    app.add_lexer("mermaid", TextLexer)

"""Settings of Sphinx for the documentation: python -m sphinx -W -b html docs docs/_build."""

import re

from sphinx.application import Sphinx

from vaezoo.config import VERSION

project, version, release = "vaezoo", VERSION, VERSION
html_title = "vaezoo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_show_copyright = html_show_sphinx = False
html_copy_source = False

myst_heading_anchors = 4  # as GitHub names them, so that links work in both places
copybutton_exclude = ".linenos, .gp, .go"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "fully-qualified"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

CHAPTER = re.compile(r"^## (.+)\n\n((?:- .+\n)+)", re.MULTILINE)
PAGE = re.compile(r"^- \[.+?\]\((\S+)\.md\)", re.MULTILINE)


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Makes the lists of pages in index.md the contents of the site too: each heading with links is a chapter."""
    if name == "index":
        chapters = [(title, "\n".join(PAGE.findall(links))) for title, links in CHAPTER.findall(source[0])]
        trees = [f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```" for title, pages in chapters]
        source[0] = "\n\n".join([source[0], *trees])


def escape_formulas(app: Sphinx, what: str, name: str, target: object, options: object, lines: list[str]) -> None:
    """Leaves the bars and stars of formulas such as |z| in docstrings as they are, outside of ``code``."""
    text = "\n".join(lines)
    lines[:] = re.sub(r"(``.*?``)|([*|])", lambda found: found[1] or f"\\{found[2]}", text, flags=re.DOTALL).split("\n")


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", escape_formulas, priority=100)  # before napoleon writes its own markup

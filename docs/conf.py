"""Settings of Sphinx for the documentation: python -m sphinx -W -b html docs docs/_build.

With VAEZOO_EXPLORER=FILE, the page that vaezoo explore wrote, learn.md has that page in place of its picture.
"""

import os
import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

from vaezoo.config import VERSION

project, version, release = "vaezoo", VERSION, VERSION
html_title = "vaezoo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = html_show_sphinx = False
html_copy_source = False

EXPLORER = os.environ.get("VAEZOO_EXPLORER")
html_extra_path = [os.path.abspath(EXPLORER)] if EXPLORER else []

html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # as GitHub names them, so that links work in both places

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True

CHAPTER = re.compile(r"^## (.+)\n\n((?:- .+\n)+)", re.MULTILINE)
PAGE = re.compile(r"^- \[.+?\]\((\S+)\.md\)", re.MULTILINE)

EXPLORER_PICTURE = re.compile(r"^!\[(.+?)\]\(pictures/learn_explorer\.png\)$", re.MULTILINE)


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Makes the pages that index.md and zoo/index.md list the contents of the site too, by the headings of index.md."""
    if name == "index":
        chapters = [(title, "\n".join(PAGE.findall(links))) for title, links in CHAPTER.findall(source[0])]
        trees = [f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```" for title, pages in chapters]
        source[0] = "\n\n".join([source[0], *trees])
    if name == "zoo/index":
        pages = "\n".join(dict.fromkeys(re.findall(r"\]\((\w+)\.md", source[0])))
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


def embed_explorer(app: Sphinx, name: str, source: list[str]) -> None:
    """Shows the explorer's page, if there is one, in place of its picture."""
    if name == "learn" and EXPLORER:
        file = Path(EXPLORER).name
        frame = f'<iframe class="explorer" src="{file}" title="\\1" loading="lazy"></iframe>'
        whole = f'```{{raw}} html\n{frame}\n<p><a href="{file}">In a window of its own</a></p>\n```'
        source[0] = EXPLORER_PICTURE.sub(whole, source[0])


def parse_docstring(app: Sphinx, what: str, name: str, target: object, options: object, lines: list[str]) -> None:
    """Google style, with the bars and stars of formulas such as |z| as they are, outside of ``code``.

    Napoleon as an extension would take what stands before a colon in the docstring of a property for its type.
    """
    text = re.sub(r"(``.*?``)|([*|])", lambda found: found[1] or f"\\{found[2]}", "\n".join(lines), flags=re.DOTALL)
    lines[:] = GoogleDocstring(text, Config()).lines()


def shorten(
    app: Sphinx, what: str, name: str, target: object, options: object, signature: str | None, returns: str | None
) -> tuple[Any, Any]:
    """Leaves out what a class takes from torch, and shows types and defaults of dataclasses as others."""
    short = signature and re.sub(r"~(\w+\.)+", "", signature).replace("<factory>", "{}")
    return "" if short == "(*args: Any, **kwargs: Any)" else short, returns


def break_at_underscores(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Lets the names of metrics in heads of tables break there, and nowhere else."""
    for head in doctree.findall(nodes.thead):
        for literal in list(head.findall(nodes.literal)):
            text = escape(literal.astext()).replace("_", "_<wbr>")
            literal.replace_self(nodes.raw("", f'<code class="literal">{text}</code>', format="html"))


def draw_formula(writer: Any, node: nodes.math | nodes.math_block) -> None:
    """MathML, which browsers draw without a script from elsewhere."""
    block = isinstance(node, nodes.math_block)
    writer.body.append(convert(node.astext(), display="block" if block else "inline"))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (draw_formula, None), (draw_formula, None))
    app.connect("source-read", add_contents)
    app.connect("source-read", embed_explorer)
    app.connect("doctree-resolved", break_at_underscores)
    app.add_config_value("explorer", EXPLORER, "env")  # another one, and pages are read again
    app.connect("autodoc-process-docstring", parse_docstring)
    app.connect("autodoc-process-signature", shorten)

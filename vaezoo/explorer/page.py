"""Renders a page from its content: one HTML file with its style, scripts, programs and images inside."""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor

from vaezoo.config import VERSION
from vaezoo.explorer import runtime
from vaezoo.explorer.images import Shown
from vaezoo.explorer.model_content import ModelContent

SCRIPTS = (
    *("data", "vectors", "elements", "networks", "plane", "latent_map", "index_map", "sliders", "neighbours"),
    *("model_card", "drawing", "ends", "walk", "tour", "main"),
)
"""Names of the page's scripts in ``templates``, in the order in which they are joined."""


@dataclass(frozen=True)
class Page:
    """The content of a page: images, and models side by side."""

    images: Shown
    models: list[ModelContent]
    version: str = VERSION


def render(page: Page, left_out: Sequence[str]) -> str:
    """The page as HTML. ``left_out`` are sentences on models that are not on it.

    Its content security policy allows no request, and only those scripts and that style which the page was made with.
    """
    templates = files("vaezoo.explorer") / "templates"
    style = (templates / "style.css").read_text()
    own = "\n".join((templates / f"{name}.js").read_text() for name in SCRIPTS)
    scripts = {"runtime": runtime.text(runtime.SCRIPT), "own": f'"use strict";\n{own}'}
    environment = Environment(loader=PackageLoader("vaezoo.explorer"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("explorer.html").render(
        title=f"{len(page.models)} {'model' if len(page.models) == 1 else 'models'} on {page.images.data}",
        policy=_policy(list(scripts.values()), style),
        style=style,
        scripts=scripts,
        content=as_json(page),
        wasm=_text_of(runtime.compressed(runtime.WASM)),
        module=_text_of(runtime.compressed(runtime.MODULE)),
        licence=runtime.licence(),
        runtime_version=runtime.VERSION,
        left_out=left_out,
        version=page.version,
    )


def _policy(scripts: Sequence[str], style: str) -> str:
    hashes = " ".join(map(_source, scripts))
    return (
        f"default-src 'none'; script-src {hashes} 'wasm-unsafe-eval' blob:; style-src {_source(style)};"
        " img-src data: blob:; connect-src blob:; base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    """The source expression of a content security policy that allows just this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def as_json(value: Any) -> str:
    """Dataclasses as JSON that can stand in a script element; see ``plain`` for tensors and bytes."""
    return json.dumps(plain(value), separators=(",", ":")).replace("<", "\\u003c")


def plain(value: Any) -> Any:
    """Dataclasses as mappings; tensors as their shape, type and compressed values; bytes compressed, in base64."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Tensor):
        array = value.detach().cpu().numpy()
        kind = "int32" if array.dtype.kind == "i" else "float32"
        little = array.astype(f"<{kind[0]}4")
        return {"shape": list(array.shape), "type": kind, "values": _packed(little.tobytes())}
    if isinstance(value, bytes):
        return _packed(value)
    if isinstance(value, dict):
        return {str(key): plain(child) for key, child in value.items()}
    return [plain(child) for child in value] if isinstance(value, list | tuple) else value


def _packed(content: bytes) -> str:
    return _text_of(gzip.compress(content, 9, mtime=0))


def _text_of(content: bytes) -> str:
    return base64.b64encode(content).decode()

"""The files of onnxruntime-web that a page contains, checked by their SHA-256."""

import gzip
import hashlib
import zlib
from importlib.resources import files

from vaezoo.config.errors import RunError

VERSION = "1.30.0"
SCRIPT, MODULE, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
SHA256 = {
    SCRIPT: "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    MODULE: "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""Of the files in the npm package ``onnxruntime-web``, uncompressed."""


def licence() -> str:
    """The text of onnxruntime's licence."""
    return (files("vaezoo.explorer") / "onnxruntime_web" / "LICENSE").read_text()


def compressed(name: str) -> bytes:
    """A file of onnxruntime-web, compressed by gzip; RunError unless it is the published one."""
    content = (files("vaezoo.explorer") / "onnxruntime_web" / f"{name}.gz").read_bytes()
    _check(name, content)
    return content


def text(name: str) -> str:
    """A script of onnxruntime-web; RunError unless it is the published one."""
    return gzip.decompress(compressed(name)).decode()


def _check(name: str, content: bytes) -> None:
    try:
        found = hashlib.sha256(gzip.decompress(content)).hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        found = f"not that of a gzip file ({error})"
    if found != SHA256[name]:
        raise RunError(
            f"{name} of vaezoo is not the file of onnxruntime-web {VERSION}, whose SHA-256 is {SHA256[name]}; it is"
            f" {found}; reinstall vaezoo"
        )

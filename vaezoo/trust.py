"""What a run folder from elsewhere may make, write and allocate: classes on an allow-list, files of its own, its size.

Settings on the user's own command line are the user's: nothing here is asked of them.
"""

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaezoo.config import moved
from vaezoo.errors import ConfigError, RunError
from vaezoo.reading import check_plain, flat

if TYPE_CHECKING:
    from vaezoo.models import Autoencoder

OWN = ("vaezoo",)
LIGHTNING = frozenset(
    (
        "lightning.pytorch.Trainer",
        "lightning.pytorch.callbacks.EMAWeightAveraging",
        "lightning.pytorch.callbacks.EarlyStopping",
        "lightning.pytorch.callbacks.LearningRateMonitor",
        "lightning.pytorch.strategies.DDPStrategy",
        "lightning.pytorch.strategies.FSDPStrategy",
        "lightning.pytorch.strategies.ModelParallelStrategy",
    )
)
"""Classes of Lightning that a loaded config may make, each in its place: those that our configs name, the trainer and
the sharding of run folders made before vaezoo had its own, and two callbacks that many add."""
WRITERS = ("dirpath", "save_dir", "root_dir", "log_dir")
"""Settings of callbacks and loggers that say where files are written."""
MOST_PICKLED = 2**26
"""Bytes of a checkpoint beside its tensors."""


def allowed_packages(value: Any) -> tuple[str, ...]:
    """Packages that a user names, vaezoo among them; ConfigError unless they are names in a list."""
    names = [] if value is None else value
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(_is_name(name) for name in names):
        raise ConfigError(f"packages must be a list of names of Python packages, such as [mypackage], got {value!r}")
    return (*OWN, *names)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and all(part.isidentifier() for part in value.split("."))


def packages_of(config: Mapping[str, Any]) -> list[str]:
    """The packages beside vaezoo and Lightning from which a config of the user's own makes something."""
    targets = (str(value) for key, value in flat(config) if key.rpartition(".")[2] == "_target_")
    known = (*OWN, "lightning", "torch")
    return sorted({target.partition(".")[0] for target in targets} - set(known))


def belongs(module: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of the packages, or lies in it."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


# configs -------------------------------------------------------------------------------------------------------------


def check_config(
    config: Mapping[str, Any], where: Path, *, packages: Sequence[str] = OWN, told: Sequence[str] = ()
) -> None:
    """RunError if a loaded config makes what is not on the allow-list, or has files written out of its run folder.

    ``where`` is its run folder. ``told`` are the words of the command line: what they set is the user's own.
    """
    own = {word.lstrip("+~").partition("=")[0] for word in told}
    # A mapping that is typed is merged with what stands there: it replaces a class only with its own, or as null.
    typed = [word.lstrip("+~").partition("=") for word in told]
    own |= {f"{key}._target_" for key, _, value in typed if "_target_" in value or value == "null"}
    for key, node in _mappings(config):
        for name in node:
            if name.startswith("_") and name not in ("_target_", "_convert_"):
                raise RunError(f"{where}/config.yaml sets {key}.{name}, which a run's config does not; leave it out")
        if "_target_" in node and f"{key}._target_" not in own:
            _check_target(key, node["_target_"], where, packages)
    for group in ("callbacks", "logger", "trainer"):
        for key, value in flat(config.get(group), group):
            if key not in own and isinstance(value, str):
                _check_path(key, value, str(config.get("run_dir")), where)


def _mappings(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping, in lists too, and where it stands."""
    if isinstance(node, Mapping):
        yield key, node
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield from _mappings(child, f"{key}.{name}" if key else str(name))


def _check_target(key: str, target: Any, where: Path, packages: Sequence[str]) -> None:
    """RunError unless ``target`` names a class that may be made at this place of a config."""
    module = str(target).rpartition(".")[0]
    known = isinstance(target, str) and (target in LIGHTNING or belongs(module, (*packages, "torch.nn")))
    if not known:
        raise RunError(
            f"{where}/config.yaml asks for {target!r} in {key}; if you trust it, name its package:"
            f" packages=[{str(target).partition('.')[0]}]"
        )
    try:
        cls = getattr(import_module(module), target.rpartition(".")[2])
    except Exception as error:  # whatever the import of a module raises
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{where}/config.yaml asks for {target!r} in {key}, which is not here: {reason}") from error
    kind = _kind(key)
    from_torch = belongs(getattr(cls, "__module__", None) or "", ("torch.nn.modules",)) and key.count(".") > 0
    defined = isinstance(cls, type) and (target in LIGHTNING or belongs(cls.__module__, packages) or from_torch)
    if defined and issubclass(cls, kind):
        return
    raise RunError(f"{where}/config.yaml asks for {target!r} in {key}, where only a {kind.__name__} may be made")


def _kind(key: str) -> type:
    """What a place of a config may hold: its data, its model, a callback, a logger, or a part of one of them."""
    import lightning.pytorch as L
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.strategies import Strategy
    from torch import nn

    from vaezoo.models import Autoencoder

    kinds: dict[str, type] = {"data": L.LightningDataModule, "model": Autoencoder, "trainer": L.Trainer}
    kinds["trainer.strategy"] = Strategy
    group, _, rest = key.partition(".")
    if rest and "." not in rest and group in ("callbacks", "logger"):
        return L.Callback if group == "callbacks" else Logger
    return kinds.get(key, nn.Module)


def _check_path(key: str, value: str, run_dir: str, where: Path) -> None:
    """RunError for a place to write to that, when the config was placed, is not in the folder ``where``."""
    writes = key.rpartition(".")[2] in WRITERS
    if not writes and not value.startswith(("/", "~", "\\")) and "://" not in value and ".." not in Path(value).parts:
        return
    folder = where.absolute()
    written = Path(moved(value, run_dir, str(folder)))
    inside = written.is_relative_to(folder) and ".." not in written.relative_to(folder).parts
    if not (inside and Path(run_dir).is_absolute() and Path(run_dir).name not in ("", "..")):
        raise RunError(
            f"{where}/config.yaml writes outside of the run folder ({key}={value}); if you want that, say so:"
            f" {key}=PATH"
        )


def refuse_links(run_dir: Path) -> None:
    """RunError if a folder of runs has links that lead out of it, or pipes and devices, which hang who opens them."""
    root = run_dir.resolve()
    for base, folders, names in os.walk(root):
        for path in (Path(base, name) for name in (*folders, *names)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise RunError(
                    f"{path} is a link that leads out of the run folder ({os.readlink(path)}), and what is"
                    " written there would go elsewhere; put the file or folder itself in its place"
                )
            if not path.is_file() and not path.is_dir() and path.exists():
                raise RunError(f"{path} is neither a file nor a folder; remove it")


# checkpoints ---------------------------------------------------------------------------------------------------------


def check_archive(path: Path) -> None:
    """ValueError unless a file is an archive as torch writes it, which takes no more memory than it has bytes."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed, which torch's files are not")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("it says to hold more than there is")
    if sum(member.file_size for member in members if member.filename.endswith(".pkl")) > MOST_PICKLED:
        raise ValueError("it holds more settings than a model can have")


def check_content(path: Path, content: Any) -> None:
    """RunError unless a checkpoint's parts are what they should be, and no larger than its file."""
    from torch import Tensor

    if not isinstance(content, dict) or not isinstance(content.get("model_class"), str):
        raise RunError(f"{path} is not a checkpoint of vaezoo: it names no model_class")
    settings, weights = content.get("hyper_parameters"), content.get("state_dict")
    if not isinstance(settings, Mapping) or not isinstance(weights, Mapping):
        raise RunError(f"{path} is not a checkpoint of vaezoo: it has no hyper_parameters or no state_dict")
    check_plain(dict(settings), str(path))
    tensors = list(weights.values())
    if not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise RunError(f"{path} is damaged: its state_dict holds other things than tensors")
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors) > path.stat().st_size:
        raise RunError(f"{path} is damaged: its weights say to be larger than the file")
    for key, value in _texts(content.get("callbacks")):  # Lightning removes checkpoints that are named there
        if "://" in value or "::" in value or ".." in Path(value).parts:
            raise RunError(f"{path} is not to be trusted: it has a path out of its run folder ({key}: {value[:100]})")


def made_without_memory(cfg: Any, image_shape: Sequence[int]) -> "Autoencoder | None":
    """The model that a config asks for on torch's meta device, whose shapes cost nothing, though a few bytes of
    settings can ask for terabytes; None for a class of the user's own that cannot be made so: its package was trusted.
    """
    import torch
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        with torch.device("meta"):
            model: Autoencoder = instantiate(cfg.model, image_shape=list(image_shape))
            return model
    except InstantiationException:
        if belongs(str(cfg.model["_target_"]), OWN):
            raise
        return None


def _texts(node: Any, key: str = "callbacks") -> Iterator[tuple[str, str]]:
    """All texts in the states of callbacks, names in mappings among them, each container once."""
    waiting, seen = [(key, node)], set[int]()
    while waiting:
        key, node = waiting.pop()
        if isinstance(node, str):
            yield key, node
        elif isinstance(node, Mapping | list | tuple) and id(node) not in seen:
            seen.add(id(node))
            pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
            waiting += [pair for name, child in pairs for pair in ((key, name), (str(name)[:100], child))]


def make_model(cls: "type[Autoencoder]", settings: Mapping[str, Any], weights: Mapping[str, Any]) -> "Autoencoder":
    """The model of these settings with these weights; RuntimeError, before memory is taken, where they do not fit.

    It is first made without memory (on torch's meta device), as settings of a few bytes can ask for terabytes. A class
    of the user's own that cannot be made so is made at once: its package was trusted.
    """
    import torch

    try:
        with torch.device("meta"):
            wanted = {name: tensor.shape for name, tensor in cls(**settings).state_dict().items()}
    except (NotImplementedError, RuntimeError):
        if belongs(cls.__module__, OWN):
            raise
        wanted = {name: tensor.shape for name, tensor in weights.items()}
    wrong = [name for name, shape in wanted.items() if name in weights and weights[name].shape != shape]
    lacking = sorted(wanted.keys() ^ weights.keys())
    if wrong:
        name = wrong[0]
        raise RuntimeError(f"{name} is {list(weights[name].shape)} in it and {list(wanted[name])} by its settings")
    if lacking:
        raise RuntimeError(f"it lacks or has too many of {', '.join(lacking[:3])}")
    model = cls(**settings)
    model.load_state_dict(weights)
    return model

"""The zoo as a table, made from the configs, classes and objectives of its models."""

import inspect
import re
from collections.abc import Sequence
from typing import NamedTuple

from hydra import compose
from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from vaezoo.commands.assembly import made_model
from vaezoo.config import hydra_config
from vaezoo.config.choices import GRIDS
from vaezoo.models import Autoencoder
from vaezoo.runs.user_code import UserCode, composing

IMAGE = (1, 16, 16)
"""Channels, height and width of the images that the models in the table are made for."""

CLASSES = 10
"""Number of labels of models that take them from the data."""

HEADINGS = ("`model=`", "what it is", "paper", "minimises, in nats per image", "needs")


class Row(NamedTuple):
    """A model of the zoo: its name, one line on what it is, its papers, its objective and what it needs."""

    name: str
    description: str
    paper: str
    objective: str
    needs: str


def rows(added: UserCode) -> list[Row]:
    """One row for each config of a model, the user's own among them."""
    names = added.options("model")
    with composing(added.config_dir):
        configs = [compose(f"model/{name}", ["model.likelihood=bernoulli"]).model for name in names]
    return [_row(added, name, settings) for name, settings in zip(names, configs, strict=True)]


def _row(added: UserCode, name: str, settings: DictConfig) -> Row:
    """A model that cannot be created, which a user's may be, is described by the reason."""
    try:
        model = made_model(settings, IMAGE, classes=CLASSES)
    except Exception as error:
        return Row(name, f"cannot be created: {hydra_config.explain(error) or repr(error)}", "", "", "")
    return Row(name, *_description(added, name, model), model.formula(), _needs(model))


def _description(added: UserCode, name: str, model: Autoencoder) -> tuple[str, str]:
    """The first line of the config if it is a comment, else the first sentence of the class, and the papers in it."""
    file = added.file("model", name)
    first = "" if file is None else file.read_text().partition("\n")[0]
    text = first.lstrip("# ") if first.startswith("#") else inspect.getdoc(type(model)) or ""
    sentence = " ".join(text.partition("\n\n")[0].split()).rstrip(".")
    papers = re.search(r" \(([^()]*\b(?:19|20)\d\d\b[^()]*)\)$", sentence)
    return (sentence[: papers.start()], papers[1]) if papers else (sentence, "")


def _needs(model: Autoencoder) -> str:
    wanted = {"labels": model.wants_labels, "conv or resnet": len(model.code_shape) > 1 or model.networks == GRIDS}
    return ", ".join(need for need, wants in wanted.items() if wants)


def show(table: Sequence[Row]) -> None:
    """Print the table, as wide as the terminal."""
    shown = Table("model=", *HEADINGS[1:3], HEADINGS[4], box=box.SIMPLE_HEAD, pad_edge=False)
    for row in table:
        shown.add_row(row.name, row.description.replace("``", ""), row.paper, row.needs)
    Console().print(shown)


def markdown(table: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
    for row in table:
        cells = [
            f"`{row.name}`",
            row.description.replace("``", "`"),
            row.paper,
            row.objective.replace("|", r"\|"),
            row.needs,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"

"""``vaezoo score RUN out=FILE [KEY=VALUE...]``: scores images as anomalies, and says how well each score finds them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from vaezoo.commands.apply.request import SHARED_USAGE, Request, applied, read, say_missing, say_written
from vaezoo.config import arguments
from vaezoo.config.validation import within
from vaezoo.runs import tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vaezoo.data.named_images import NamedBatch, NamedImages
    from vaezoo.metrics.detection import Detection
    from vaezoo.models.trained import Trained

USAGE = f"""usage: vaezoo score RUN|FILE.safetensors|hf://OWNER/NAME out=FILE [KEY=VALUE...]

Write a table with a row for each image: path (or index), label, and scores that are higher for images unlike those of
training: mse, recon, neg_elbo, neg_iw_bound, kl, and knn_distance and mahalanobis of the code from those of training
images. With anomalies, it also says how well each score finds them: AUROC and average precision. Test images of
classes in data.leave_out are anomalies without further ado.

  out=FILE            ends in .csv, .npz or .parquet (extra: parquet)
  images=test         train, val or test of the run's data set, an image file, or a folder of them
  anomalies=FOLDER    images that the scores are to find, given in the same ways
  k=50                draws of the importance-weighted bound
  neighbours=5        knn_distance is that from the so many-th nearest training code
  train_images=10000  training images whose codes others are compared with
{SHARED_USAGE}"""


@dataclass(frozen=True)
class ScoreOptions:
    """Options of this command alone."""

    anomalies: str | None = None
    k: int = 50
    neighbours: int = 5
    train_images: int = 10_000

    def __post_init__(self) -> None:
        for name, least, most in (("k", 1, 10**6), ("neighbours", 1, 10**6), ("train_images", 2, 10**7)):
            within(getattr(self, name), least, most, f"score.{name}")


def main(words: list[str]) -> int:
    """Run the command; returns the exit code."""
    return arguments.run(words, USAGE, partial(_score, words))


def _score(words: Sequence[str]) -> int:
    score(*arguments_of(words))
    return 0


def arguments_of(words: Sequence[str]) -> tuple[Request, ScoreOptions]:
    """Parse the command line; ConfigError for invalid arguments."""
    request, [options] = read("score", words, tables.KINDS, ScoreOptions)
    return request, options


def score(request: Request, options: ScoreOptions) -> None:
    """Write the table part by part, and print how well each score finds the anomalies, if they are known."""
    with applied(request) as trained, tables.writing(request.out) as table:
        from vaezoo.evaluation import anomalies

        parts = _parts(request, trained, options.anomalies)
        scorer = trained.scorer(
            neighbours=options.neighbours,
            train_images=options.train_images,
            draws=options.k,
            seed=request.options.seed,
        )
        found: dict[str, list[NDArray[Any]]] = {}
        for rows in _rows(scorer, parts):
            table.add(rows)
            for name in (*anomalies.SCORES, ANOMALY):
                if name in rows:
                    found.setdefault(name, []).append(rows[name])
        missing = anomalies.missing_scores(scorer, found)
    count = sum(map(len, next(iter(found.values()))))
    say_written(request, [images for images, _ in parts], f"{count:,} images")
    say_missing(missing)
    _say_detections(found, request.options.seed)


ANOMALY = "anomaly"
"""Column that says whether an image is an anomaly: 1, or 0."""

Part = tuple["NamedImages", "NDArray[np.bool_] | None"]
"""Images, and which of them are anomalies, None if that is not known."""


def _parts(request: Request, trained: "Trained", anomalies: str | None) -> list[Part]:
    import numpy as np

    images = request.images(trained)
    if anomalies is not None:
        others = request.images(trained, anomalies).as_texts(anomalies)
        images = images.as_texts(request.options.images or "test")
        return [(part, np.full(len(part), part is others)) for part in (images, others)]
    left_out = () if trained.data is None else trained.data.left_out
    is_split = (request.options.images or "test") in ("train", "val", "test")
    return [(images, np.isin(images.labels.numpy(), left_out) if left_out and is_split else None)]


def _rows(scorer: Any, parts: Sequence[Part]) -> Iterator[dict[str, "NDArray[Any]"]]:
    """Batches of rows of all parts, with a progress bar."""
    from vaezoo.commands import console

    with console.counting("scoring", sum(len(images) for images, _ in parts)) as advance:
        for images, anomalous in parts:
            for batch, rows in scorer.score(images):
                advance(len(batch.x))
                yield rows if anomalous is None else _flagged(batch, rows, anomalous)


def _flagged(
    batch: "NamedBatch", rows: dict[str, "NDArray[Any]"], anomalous: "NDArray[np.bool_]"
) -> dict[str, "NDArray[Any]"]:
    """Rows with ``label``, which is empty without labels, and ``anomaly``."""
    import numpy as np

    label = rows.get("label", np.full(len(batch.x), ""))
    return rows | {"label": label, ANOMALY: anomalous[batch.positions.numpy()].astype(int)}


def _say_detections(found: Mapping[str, list["NDArray[Any]"]], seed: int) -> None:
    """Print AUROC and average precision of each score, and a warning for those that rank the wrong way round."""
    import numpy as np

    from vaezoo.evaluation.anomalies import SCORES
    from vaezoo.metrics.detection import detect

    if ANOMALY not in found:
        return
    flags = np.concatenate(found[ANOMALY]) == 1
    if flags.all() or not flags.any():
        print("all images are of one kind, so that scores cannot be measured")
        return
    values = {name: np.concatenate(found[name]) for name in SCORES if name in found}
    detections = {
        name: detect(each[~flags], each[flags], seed=seed) for name, each in values.items() if np.isfinite(each).all()
    }
    _show(detections)
    for warning in _warnings(detections):
        print(f"warning: {warning}")


def _show(detections: Mapping[str, "Detection"]) -> None:
    from rich.console import Console
    from rich.table import Table

    first = next(iter(detections.values()))
    title = f"{first.anomalous:,} anomalies among {first.normal + first.anomalous:,} images, with 95% intervals"
    table = Table(title=title, title_justify="left")
    for column in ("score", "AUROC", "average precision"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for name, each in detections.items():
        pairs = (
            (each.auroc, each.auroc_interval),
            (each.average_precision, each.average_precision_interval),
        )
        table.add_row(name, *(f"{value:.3f} ({low:.3f} to {high:.3f})" for value, (low, high) in pairs))
    share = first.anomalous / (first.normal + first.anomalous)
    table.add_section()
    table.add_row("chance", "0.500", f"{share:.3f}")
    Console().print(table, highlight=False)


def _warnings(detections: Mapping[str, "Detection"]) -> Iterator[str]:
    from vaezoo.evaluation.anomalies import LIKELIHOODS

    wrong = [name for name, each in detections.items() if each.is_reversed]
    best = max(detections, key=lambda name: detections[name].auroc)
    if likelihoods := [name for name in wrong if name in LIKELIHOODS]:
        yield (
            f"{_rank(likelihoods)} anomalies below normal images: likelihoods often favour simple images,"
            f" whatever they show (Nalisnick et al., 2019), so do not use them here; {best} is best"
        )
    if others := [name for name in wrong if name not in LIKELIHOODS]:
        yield f"{_rank(others)} anomalies below normal images; {best} is best"


def _rank(names: Sequence[str]) -> str:
    """Subject and verb: ``kl ranks``, ``mse and kl rank``."""
    if len(names) == 1:
        return f"{names[0]} ranks"
    return f"{', '.join(names[:-1])} and {names[-1]} rank"

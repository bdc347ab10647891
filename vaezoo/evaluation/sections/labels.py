"""What codes and bounds say about labels: probes, disentanglement, and classes that training has not seen."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.config.errors import DataError
from vaezoo.evaluation.anomalies import MOST_CODES, AnomalyScorer, TrainingCodes, missing_scores
from vaezoo.evaluation.inputs import Inputs
from vaezoo.evaluation.sections.numbers import Number, Numbers, missing, names_of
from vaezoo.metrics import probes
from vaezoo.metrics.detection import detect
from vaezoo.metrics.disentanglement import Sizes, evaluate_disentanglement

FEW_LABELS = f"probe_accuracy_{probes.FEW}"
PROBES: dict[str, Callable[..., probes.Probe]] = {
    "probe_accuracy": probes.linear_probe,
    FEW_LABELS: probes.few_label_probe,
    "knn_accuracy": probes.knn_probe,
}


def probed(inputs: Inputs, train_codes: Tensor, test_codes: Tensor) -> Numbers:
    """Accuracy of a linear probe, of one with few labels and of nearest neighbours from codes (N, D) to labels."""
    names = list(PROBES)
    if not inputs.labelled:
        return missing(names, f"{inputs.data.name} has no labels")
    labels = (inputs.train_labels[: len(train_codes)], inputs.test_labels[: len(test_codes)])
    factors = [factor.name for factor in inputs.data.factors]
    arguments = (train_codes, labels[0], test_codes, labels[1])
    numbers: Numbers = {}
    for name, probe in PROBES.items():
        if name == FEW_LABELS and len(train_codes) < probes.FEW:
            numbers |= missing([name], f"there are fewer than {probes.FEW} training images")
            continue
        found = probe(*arguments, seed=inputs.settings.seed, factors=factors)
        numbers[name] = {"value": found.value, "se": found.standard_error, "n": found.n_test}
        numbers[name] |= {"n_train": found.n_train, "majority": found.majority}
        if found.of_factors:
            numbers[name]["of_factors"] = found.of_factors
    return numbers


def disentanglement(inputs: Inputs, train_codes: Tensor, test_codes: Tensor) -> Numbers:
    """Disentanglement scores from codes (N, D), for data with known factors."""
    names = names_of("disentanglement")
    if not inputs.data.has_known_factors:
        return missing(names, f"the factors behind {inputs.data.name} are not known")
    if not inputs.settings.disentanglement:
        return missing(names, "left out of this evaluation; see vaezoo evaluate")
    labels = (inputs.train_labels[: len(train_codes)], inputs.test_labels[: len(test_codes)])
    settings = inputs.settings
    sizes = Sizes(train=settings.train_images, dci_train=settings.dci_train)
    arrays = (train_codes.numpy(), labels[0].numpy(), test_codes.numpy(), labels[1].numpy())
    names_of_factors = [factor.name for factor in inputs.data.factors]
    try:
        scores = evaluate_disentanglement(*arrays, seed=settings.seed, sizes=sizes, names=names_of_factors)
    except DataError as error:
        return missing(names, str(error))
    return {
        name: {
            "value": score.value,
            "n": score.n,
            **score.settings,
            **({"reason": score.reason} if score.reason else {}),
        }
        for name, score in scores.items()
    }


def anomalies(subject: Any, inputs: Inputs, train_codes: Tensor) -> Numbers:
    """How well scores tell test images of the classes in ``data.leave_out`` from the others (see ``AnomalyScorer``)."""
    names = names_of("anomalies")
    unseen = torch.isin(inputs.test_labels, torch.tensor(inputs.data.left_out, dtype=torch.long)).numpy()
    if not inputs.data.left_out:
        return missing(names, "training has seen all classes; see data.leave_out")
    if unseen.all() or not unseen.any():
        return missing(names, "the test images lack classes that training has not seen, or has seen")
    seed = inputs.settings.seed
    scorer = AnomalyScorer(subject, TrainingCodes.fit(train_codes[:MOST_CODES]), draws=0, seed=seed)
    scores = scorer.scores(inputs.test, inputs.test_labels)
    numbers = {f"auroc_{name}": _auroc(values.numpy(), unseen, seed) for name, values in scores.items()}
    reasons = {f"auroc_{name}": reason for name, reason in missing_scores(scorer, scores).items()}
    return {name: numbers.get(name, {"value": None, "reason": reasons.get(name)}) for name in names}


def _auroc(scores: NDArray[np.float64], anomalous: NDArray[np.bool_], seed: int) -> Number:
    if not np.isfinite(scores).all():
        return {"value": None, "reason": "some scores are not finite"}
    found = detect(scores[~anomalous], scores[anomalous], seed=seed)
    sizes = {"n": found.normal + found.anomalous, "anomalous": found.anomalous}
    return {"value": found.auroc, "se": found.auroc_error, **sizes}

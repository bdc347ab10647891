"""What codes and bounds say about labels: probes, disentanglement, and classes that training has not seen."""

from torch import Tensor

from vaezoo.config.errors import DataError
from vaezoo.evaluation.inputs import Inputs
from vaezoo.evaluation.sections.numbers import Numbers, missing, names_of
from vaezoo.metrics import probes
from vaezoo.metrics.disentanglement import Sizes, evaluate_disentanglement


def probed(inputs: Inputs, train_codes: Tensor, test_codes: Tensor) -> Numbers:
    """Accuracy of a linear probe and of nearest neighbours from codes (N, D) to labels."""
    names = ["probe_accuracy", "knn_accuracy"]
    if not inputs.labelled:
        return missing(names, f"{inputs.data.name} has no labels")
    labels = (inputs.train_labels[: len(train_codes)], inputs.test_labels[: len(test_codes)])
    factors = [factor.name for factor in inputs.data.factors]
    arguments = (train_codes, labels[0], test_codes, labels[1])
    numbers: Numbers = {}
    for name, probe in zip(names, (probes.linear_probe, probes.knn_probe), strict=True):
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

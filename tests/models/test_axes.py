"""Every option of every axis keeps to the contract, and every two options work together or are refused.

Options that a model of the zoo has are tested with the zoo.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations, product
from typing import Any

import pytest
import torch
import yaml

from vaezoo.commands.check import Make, clauses
from vaezoo.config import hydra_config
from vaezoo.config.choices import (
    BOUNDS,
    DISCRIMINATORS,
    LIKELIHOODS,
    NETWORKS,
    PENALTIES,
    PERCEPTUAL,
    POSTERIORS,
    PRIORS,
    QUANTIZERS,
)
from vaezoo.config.errors import ConfigError
from vaezoo.models import VAE

WITH_FILES = ("lpips_vgg", "lpips_alex", "classifier")
"""Options that need files which are not part of any package, or data; those are tested elsewhere."""
AXES: dict[str, tuple[str, Sequence[str]]] = {
    "posterior": ("vae", POSTERIORS),
    "prior": ("vae", PRIORS),
    "bound": ("vae", BOUNDS),
    "penalty": ("vae", PENALTIES),
    "perceptual": ("vae", [name for name in PERCEPTUAL if name not in WITH_FILES]),
    "discriminator": ("vae", DISCRIMINATORS),
    "quantizer": ("vqvae", QUANTIZERS),
}
"""The options of each axis, and a model that has it."""

YAMLS = [yaml.safe_load(path.read_text()) for path in (hydra_config.CONFIGS / "model").glob("*.yaml")]
OF_OTHERS = {"prior=conditional": "conditional_vae"}
"""Options that another model has."""
CHOICES = [
    (OF_OTHERS.get(f"{axis}={name}", model), f"{axis}={name}")
    for axis, (model, names) in AXES.items()
    for name in names
    if all(settings.get(axis) != name for settings in YAMLS)
]
SMALL: dict[str, dict[str, Any]] = {
    "vamp": {"components": 5},
    "mixture": {"components": 5},
    "flow": {"steps": 3, "hidden": 16},
    "critic_tc": {"widths": [16]},
    "adversarial": {"widths": [16]},
    "patches": {"width": 4, "start": 0},
    "lfq": {"bits": 3},
    "bsq": {"bits": 3},
    "simvq": {"size": 8},
    "gumbel": {"size": 8},
}
"""Options of parts that are too large for tests, by name."""
PARTNERS: dict[str, dict[str, Any]] = {
    "uniform_sphere": {"posterior": "power_spherical"},
    "power_spherical": {"prior": "uniform_sphere"},
    "von_mises_fisher": {"prior": "uniform_sphere", "latent_dim": 3},
}
"""Settings without which an option is refused, by name."""
CLAUSES = (
    clauses.hyper_parameters_are_plain,
    clauses.terms_are_of_images,
    clauses.nothing_depends_on_the_batch,
    clauses.one_image_trains,
    clauses.critics_are_apart,
    clauses.samples_follow_their_generator,
    clauses.evidence_is_the_same_either_way,
    clauses.noise_follows_the_seed,
    clauses.losses_are_in_single_precision,
    clauses.objective_is_in_words,
)


@pytest.mark.parametrize(
    ("clause", "model", "choice"),
    [(clause, *pair) for clause in CLAUSES for pair in CHOICES],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_every_option_keeps_to_the_contract(
    clause: Callable[[Make], None], model: str, choice: str, make_model: Make
) -> None:
    axis, name = choice.split("=")
    small = [f"model.{axis}_options.{key}={value}" for key, value in SMALL.get(name, {}).items()]
    partners = [f"model.{key}={value}" for key, value in PARTNERS.get(name, {}).items()]
    chosen = (f"model.{choice}", f"model.{axis}_options=null", *partners, *(f"+{setting}" for setting in small))
    clause(partial(make_model, model, *chosen))


@pytest.mark.parametrize("name", PARTNERS)
def test_an_option_that_needs_a_partner_is_refused_without_it(name: str, make_model: Make) -> None:
    axis = next(axis for axis, (_, names) in AXES.items() if name in names)
    with pytest.raises(Exception, match=r"do not go together|for model\.latent_dim=3 only"):
        make_model("vae", f"model.{axis}={name}")


PAIRED: dict[str, Sequence[Any]] = {
    **{axis: names for axis, (model, names) in AXES.items() if model == "vae"},
    "perceptual": ("ms_ssim",),
    "likelihood": LIKELIHOODS,
    "network": NETWORKS,
    "bound_options": (None, {"estimator": "dreg"}, {"estimator": "stl"}),
}
"""The axes of a VAE. Some of their options are refused with some of the bounds."""


def made(**settings: Any) -> VAE | str:
    """A tiny VAE, or the sentence by which it is refused."""
    small = {f"{axis}_options": SMALL[str(name)] for axis, name in settings.items() if str(name) in SMALL}
    partners = {key: value for name in settings.values() for key, value in PARTNERS.get(str(name), {}).items()}
    settings = {"latent_dim": 3} | partners | settings
    try:
        return VAE(image_shape=[1, 8, 8], widths=[8], **small, **settings)
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize(("one", "other"), list(combinations(PAIRED, 2)))
def test_two_options_train_together_or_are_refused_in_one_sentence(one: str, other: str) -> None:
    x, trained = torch.rand(3, 1, 8, 8), 0
    for pair in product(PAIRED[one], PAIRED[other]):
        model = made(**dict(zip((one, other), pair, strict=True)))
        if isinstance(model, str):
            assert re.fullmatch(r"model\.[^\n]+ (needs?|set|must|is|weighs|choose) [^\n]+", model), model
            continue
        objective = model.objective(model.loss_terms(x), model.weights())
        objective.mean().backward()
        gradients = [part.grad for part in model.parameters() if part.grad is not None]
        assert objective.isfinite().all(), pair
        assert all(gradient.isfinite().all() for gradient in gradients), pair
        trained += 1
    assert trained

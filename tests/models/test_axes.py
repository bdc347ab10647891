"""Every option of every axis of the models keeps to the contract. Those that are defaults are tested with the zoo."""

from collections.abc import Callable
from functools import partial

import pytest

from vaezoo.commands.check import Make, clauses
from vaezoo.config.choices import BOUNDS, PENALTIES, POSTERIORS, PRIORS, QUANTIZERS

AXES = {
    "posterior": ("vae", POSTERIORS[1:]),
    "prior": ("vae", PRIORS[1:]),
    "bound": ("vae", BOUNDS[1:]),
    "penalty": ("vae", PENALTIES),
    "quantizer": ("vqvae", QUANTIZERS[1:]),
}
CHOICES = [(model, f"{axis}={name}") for axis, (model, names) in AXES.items() for name in names]
SMALL = {
    "prior=vamp": ["model.prior_options={components: 5}"],
    "prior=mixture": ["model.prior_options={components: 5}"],
    "penalty=critic_tc": ["model.penalty_options={widths: [16]}"],
}
"""Options of parts that are too large for tests."""
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
    clause(partial(make_model, model, f"model.{choice}", *SMALL.get(choice, [])))

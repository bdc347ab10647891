"""A fitted prior is kept in the run, drawn from, measured and compared; the autoencoder stays as it is."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import vaezoo
from vaezoo import Run
from vaezoo.commands import command_line
from vaezoo.comparison.records import read
from vaezoo.config.errors import RunError
from vaezoo.data import ImageDataModule
from vaezoo.metrics.mixtures import fit_mixture
from vaezoo.nn.priors.indices import IndexPrior, IndexTransformer

Program = Callable[..., tuple[int, str]]

CODES = ("model=vqvae", "model.quantizer_options={size: 8}", "model.widths=[8,8]")
GUMBEL = ("model=vqvae", "model.quantizer=gumbel", "model.quantizer_options={size: 5}", "model.widths=[8,8]")
CATEGORIES = ("model=categorical_vae", "model.groups=6", "model.categories=5")
SMALL = ("epochs=2", "width=8", "layers=1", "batch_size=32")
SIZES = (
    *("quick=true", "images=60", "train_images=60", "samples=40", "k=2", "bound_images=5"),
    *("pairs=5", "paths=2", "steps=3"),
)
POSITIONS = 16
UNIFORM = POSITIONS * math.log(8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A trained run by its overrides, which is trained once for all tests of this file."""
    known: dict[tuple[str, ...], Path] = {}

    def run(*overrides: str) -> Path:
        if overrides not in known:
            path = tmp_path_factory.mktemp("runs") / "run"
            shared = ["model.widths=[16]", "trainer.max_epochs=2", "callbacks=none", "data.limit=400"]
            words = ["vaezoo", "train", f"run_dir={path}", *shared, "evaluation=none", *overrides]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("sys.argv", words)
                command_line.main()
            known[overrides] = path
        return known[overrides]

    return run


@pytest.fixture
def run(made: Callable[..., Path], tmp_path: Path) -> Callable[..., Run]:
    """A copy of a trained run, of a VQ-VAE unless told otherwise."""

    def copied(*overrides: str) -> Run:
        shutil.copytree(made(*(overrides or CODES)), tmp_path / "run")
        return Run(tmp_path / "run")

    return copied


def values(run: Run) -> dict[str, Any]:
    assert run.evaluation is not None
    return {name: number["value"] for name, number in run.evaluation["metrics"].items()}


# discrete codes ------------------------------------------------------------------------------------------------------


def test_a_prior_is_fitted_stored_and_drawn_from(run: Callable[..., Run], program: Program) -> None:
    made = run()
    before = made.model()
    assert before.sample(3) is None
    weights = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    code, printed = program("prior", str(made.path), *SMALL)
    assert code == 0, printed
    assert "nats per validation image after epoch 2" in printed
    assert f"to measure the prior: vaezoo evaluate {made.path}" in printed
    model = vaezoo.load(made.path)
    assert isinstance(model.index_prior, IndexPrior)
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    one, same, other = (model.sample(5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert one is not None
    assert one.shape == (5, 1, 16, 16)
    assert torch.equal(one, same)  # type: ignore[arg-type]
    assert not torch.equal(one, other)  # type: ignore[arg-type]
    card = made.index_prior
    assert card is not None
    assert card["val"]["uniform_rate"] == pytest.approx(UNIFORM)
    assert card["val"]["prior_rate"] < UNIFORM
    assert sorted(path.name for path in (made.path / "prior").iterdir()) == sorted([card["file"], "prior.json"])


def test_the_rate_of_the_card_is_that_of_the_loaded_prior(run: Callable[..., Run], program: Program) -> None:
    made = run()
    program("prior", str(made.path), "epochs=10", "width=16", "batch_size=16")
    model, (x, _) = made.model(), made.data().examples(10_000, "val")
    assert model.index_prior is not None
    assert made.index_prior is not None
    with torch.no_grad():
        found = -model.index_prior.log_prob(model.indices(x)).mean()  # type: ignore[arg-type]
    rates = made.index_prior["val"]
    assert found.item() == pytest.approx(rates["prior_rate"], rel=1e-5)
    assert rates["prior_rate"] < rates["independent_rate"] < rates["uniform_rate"]


def test_a_fit_depends_on_its_seed_alone(run: Callable[..., Run], program: Program) -> None:
    made, found = run(), []
    for seed in (0, 0, 1):
        torch.manual_seed(99 + seed)
        code, printed = program("prior", str(made.path), *SMALL, f"seed={seed}")
        assert code == 0, printed
        assert made.index_prior is not None
        found.append((made.index_prior["sha256"], made.index_prior["rates"]))
        assert len(list((made.path / "prior").iterdir())) == 2
    assert found[0] == found[1] != found[2]


def test_an_evaluated_run_is_evaluated_again_with_its_prior(run: Callable[..., Run], program: Program) -> None:
    made = run()
    assert program("evaluate", str(made.path), *SIZES)[0] == 0
    before, settings = values(made), (made.evaluation or {})["settings"]
    without = (made.path / "evaluation.json").read_text()
    assert before["prior_rate"] is before["elbo_prior"] is before["prior_fd_classifier"] is None
    reasons = [(made.evaluation or {})["metrics"][name]["reason"] for name in ("elbo_prior", "prior_fd_classifier")]
    assert all("vaezoo prior RUN_DIR" in reason for reason in reasons)
    code, printed = program("prior", str(made.path), *SMALL)
    assert code == 0, printed
    assert "elbo_prior" in printed
    after, evaluation = values(made), made.evaluation or {}
    assert evaluation["settings"] == settings
    assert (after["elbo"], after["kl"]) == (before["elbo"], pytest.approx(UNIFORM))
    assert after["prior_rate"] < UNIFORM
    assert after["elbo_prior"] == pytest.approx(-after["recon"] - after["prior_rate"], rel=1e-6)
    assert after["prior_fd_classifier"] > 0
    assert "transformer over indices" in evaluation["metrics"]["prior_fd_classifier"]["prior"]
    of_images = evaluation["vectors"]["elbo_prior_of_images"]
    assert sum(of_images) / len(of_images) == pytest.approx(after["elbo_prior"])
    record = read(made.path)
    assert record.note == ""
    assert record.value("elbo_prior") == after["elbo_prior"]
    (made.path / "evaluation.json").write_text(without)
    assert "without the prior that was fitted since; run vaezoo evaluate" in read(made.path).note


@pytest.mark.parametrize(("overrides", "indices"), [(CATEGORIES, 6), (GUMBEL, POSITIONS)])
def test_the_uniform_prior_changes_no_bound(overrides: tuple[str, ...], indices: int, run: Callable[..., Run]) -> None:
    """Codes drawn from a posterior: with an untrained prior, ``elbo_prior`` is the ELBO."""
    from vaezoo.evaluation.inputs import Inputs
    from vaezoo.evaluation.sections import likelihood
    from vaezoo.evaluation.settings import QUICK, with_changes

    made = run(*overrides)
    model, data = made.model(), made.data()
    assert isinstance(data, ImageDataModule)
    inputs = Inputs(data, with_changes(QUICK, {"images": 50, "train_images": 50, "bound_images": 2}), model.device)
    assert model.index_layout is not None
    model.index_prior = IndexPrior(IndexTransformer(model.index_layout, width=8))
    found, _ = likelihood(model, inputs)
    assert found["prior_rate"]["value"] == pytest.approx(indices * math.log(5), rel=1e-6)
    assert found["elbo_prior"]["value"] == pytest.approx(found["elbo"]["value"], rel=1e-6)
    assert found["kl"]["value"] < indices * math.log(5)


@pytest.mark.parametrize(("overrides", "shape"), [(CATEGORIES, (6, 1, 1)), (GUMBEL, (1, 4, 4))])
def test_indices_drawn_from_a_posterior_have_a_prior_too(
    overrides: tuple[str, ...], shape: tuple[int, ...], run: Callable[..., Run], program: Program
) -> None:
    made = run(*overrides)
    own = made.model().sample(4, torch.Generator().manual_seed(0))
    code, printed = program("prior", str(made.path), *SMALL)
    assert code == 0, printed
    model, (x, _) = made.model(), made.data().examples(20, "val")
    one, other = (model.draw_indices(x, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert one is not None
    assert one.shape == (20, *shape)
    assert not torch.equal(one, other)  # type: ignore[arg-type]
    with torch.no_grad():
        codes = model.posterior(x).draw(1, torch.Generator().manual_seed(0)).first  # type: ignore[union-attr]
        torch.testing.assert_close(model.codes_at(one), codes)
    drawn = model.sample(4, torch.Generator().manual_seed(0))
    assert not torch.equal(drawn, own)  # type: ignore[arg-type]


def test_levels_of_codes_have_one_prior(run: Callable[..., Run], program: Program) -> None:
    made = run("model=rvq_vae", "model.quantizer_options={size: 8, levels: 2}", "model.widths=[8,8]")
    code, printed = program("prior", str(made.path), *SMALL)
    assert code == 0, printed
    assert made.index_prior is not None
    assert made.index_prior["val"]["uniform_rate"] == pytest.approx(2 * UNIFORM)
    assert made.model().sample(3).shape == (3, 1, 16, 16)  # type: ignore[union-attr]


def test_two_grids_have_one_prior_with_the_top_first(run: Callable[..., Run], program: Program) -> None:
    made = run("model=vqvae2", "+model.quantizer_options.size=8", "model.widths=[8,8]", "model.grid_width=8")
    code, printed = program("prior", str(made.path), *SMALL)
    assert code == 0, printed
    card = made.index_prior
    assert card is not None
    assert (card["index_shape"], card["index_grids"], card["codebook_sizes"]) == (
        [4 + POSITIONS],
        [[1, 2, 2], [1, 4, 4]],
        [8, 8],
    )
    assert card["val"]["uniform_rate"] == pytest.approx((4 + POSITIONS) * math.log(8))
    model, (x, _) = made.model(), made.data().examples(20, "val")
    assert model.sample(3).shape == (3, 1, 16, 16)  # type: ignore[union-attr]
    assert model.index_prior is not None
    indices = model.indices(x)
    assert indices is not None
    changed = indices.clone()
    changed[:, 4:] = 7 - changed[:, 4:]  # all of the bottom
    one, other = (model.index_prior.network.log_probs(each) for each in (indices, changed))
    assert torch.equal(one[:, :4], other[:, :4])
    file = made.path / "prior" / "prior.json"
    file.write_text(json.dumps(card | {"index_grids": [[1, 4, 4], [1, 2, 2]]}))
    with pytest.raises(RunError, match=r"it is for \[20\] indices"):
        made.model()


def test_images_that_are_binarised_anew_are_encoded_in_each_epoch(run: Callable[..., Run], program: Program) -> None:
    from vaezoo.commands.prior import Indices, Subject

    for overrides, anew in ((CODES, False), ((*CODES, "data.binarize=dynamic"), True)):
        made = run(*overrides)
        images = Indices(Subject(made, made.model(), made.data(), {}), seed=0)
        one, two, again = (images.of_epoch(epoch, lambda: None) for epoch in (0, 1, 0))
        assert one.shape == (400, 1, 4, 4)
        assert (torch.equal(one, two), torch.equal(one, again)) == (not anew, True)
        shutil.rmtree(made.path)


def test_the_report_draws_from_the_prior_and_says_that_it_was_fitted(run: Callable[..., Run], program: Program) -> None:
    from vaezoo.comparison.report.model_outputs import compute_outputs, images_of

    made = run()
    images = images_of(made.data())
    assert "prior" not in compute_outputs(made.model(), images).draws
    program("prior", str(made.path), *SMALL)
    draws = compute_outputs(made.model(), images).draws["prior"]
    assert draws.source == "a prior fitted to its indices after training"
    assert draws.images.shape == draws.nearest.shape == (10, 1, 16, 16)


# files ---------------------------------------------------------------------------------------------------------------


def test_the_prior_belongs_to_the_weights_that_it_was_fitted_to(run: Callable[..., Run], program: Program) -> None:
    made = run()
    program("prior", str(made.path), *SMALL)
    assert made.model("last").index_prior is None
    file = made.path / "prior" / "prior.json"
    card = json.loads(file.read_text())
    file.write_text(json.dumps(card | {"step": card["step"] + 1}))
    assert made.model().index_prior is None
    assert made.model().sample(1) is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sha256": "0" * 64}, "its weights are not those that it names"),
        ({"file": "../checkpoints/best.ckpt"}, "its weights are not those that it names"),
        ({"index_shape": [1, 5, 5]}, r"it is for \[1, 5, 5\] indices"),
        ({"settings": {"width": 2**40}}, "width must be at most"),
        ({"settings": {"width": 16, "layers": 1}}, "size mismatch"),
        ({"settings": {"wdith": 8}}, "wdith is not a setting"),
        ({"settings": 3}, "not iterable"),
    ],
)
def test_a_prior_that_does_not_fit_is_refused_and_fitted_again(
    change: dict[str, Any], sentence: str, run: Callable[..., Run], program: Program
) -> None:
    made = run()
    program("prior", str(made.path), *SMALL)
    file = made.path / "prior" / "prior.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunError, match=rf"prior\.json cannot be used: .*{sentence}.*; run vaezoo prior .* again"):
        made.model()


def test_damaged_files_are_named_and_a_new_fit_replaces_them(run: Callable[..., Run], program: Program) -> None:
    made = run()
    program("prior", str(made.path), *SMALL)
    assert made.index_prior is not None
    card, folder = made.path / "prior" / "prior.json", made.path / "prior"
    weights = folder / made.index_prior["file"]
    for file, content in ((weights, b"no weights"), (card, b"{")):
        file.write_bytes(content)
        with pytest.raises(RunError, match=r"run vaezoo prior .* again"):
            made.model()
    code, printed = program("prior", str(made.path), *SMALL)
    assert code == 0, printed
    assert made.model().index_prior is not None


def test_weights_that_are_not_finite_are_refused(run: Callable[..., Run], program: Program) -> None:
    from vaezoo.models.stored_prior import packed
    from vaezoo.runs import write_index_prior

    made = run()
    program("prior", str(made.path), *SMALL)
    prior = made.model().index_prior
    assert prior is not None
    with torch.no_grad():
        prior.network.places[0, 0] = math.nan
    write_index_prior(made.path, packed(prior), made.index_prior or {})
    with pytest.raises(RunError, match=r"not finite numbers in single precision \(places\)"):
        made.model()


def test_a_fit_that_ends_while_it_writes_leaves_the_prior_of_before(
    run: Callable[..., Run], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaezoo.runs import folder

    made = run()
    program("prior", str(made.path), *SMALL)
    before = made.index_prior

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("write_text", "replacing"):
        with monkeypatch.context() as patch:
            patch.setattr(folder, name, fail)
            code, _ = program("prior", str(made.path), *SMALL, "seed=1")
        assert code == 1
        assert made.index_prior == before
        assert made.model().index_prior is not None
    assert program("prior", str(made.path), *SMALL, "seed=1")[0] == 0
    assert len(list((made.path / "prior").iterdir())) == 2


def test_a_link_out_of_the_run_is_refused(run: Callable[..., Run], program: Program, tmp_path: Path) -> None:
    made = run()
    (tmp_path / "elsewhere").mkdir()
    (made.path / "prior").symlink_to(tmp_path / "elsewhere")
    code, printed = program("prior", str(made.path), *SMALL)
    assert code == 1
    assert "a link that leads out of the run folder" in printed
    assert not list((tmp_path / "elsewhere").iterdir())


# continuous codes, and what cannot be --------------------------------------------------------------------------------


def test_continuous_codes_get_a_mixture(run: Callable[..., Run], program: Program) -> None:
    made = run("model=ae")
    assert made.model().mixture is None
    code, printed = program("prior", str(made.path), "seed=3")
    assert code == 0, printed
    assert "mixture.json: 10 Gaussians, from 400 codes" in printed
    model = made.model()
    with torch.no_grad():
        codes = model.encode(made.data().examples(10_000, "train")[0])
    again = fit_mixture(codes, seed=3)
    assert model.mixture is not None
    for found, expected in zip(model.mixture[:3], again[:3], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert model.sample(3, prior="mixture").shape == (3, 1, 16, 16)  # type: ignore[union-attr]


def test_an_evaluation_with_fewer_codes_says_how_to_measure_the_mixture(
    run: Callable[..., Run], program: Program
) -> None:
    made = run("model=ae")
    assert program("evaluate", str(made.path), *SIZES)[0] == 0
    _, printed = program("prior", str(made.path))
    assert f"its evaluation is of another mixture; to measure this one: vaezoo evaluate {made.path}" in printed
    assert program("evaluate", str(made.path), *SIZES, "train_images=400")[0] == 0
    _, printed = program("prior", str(made.path))
    assert "another mixture" not in printed


def test_spatial_codes_of_many_dimensions_have_a_mixture_on_their_axes(
    run: Callable[..., Run], program: Program
) -> None:
    made = run(
        "model=ae", "model.network=conv", "model.latent_dim=null", "model.code_channels=24", "model.widths=[8,8]"
    )
    code, printed = program("prior", str(made.path))
    assert code == 0, printed
    assert "10 Gaussians on " in printed
    assert " of 384 axes, from 400 codes" in printed
    assert made.model().sample(3, prior="mixture").shape == (3, 1, 16, 16)  # type: ignore[union-attr]


def test_codes_of_labelled_images_have_none_and_other_runs_go_on(run: Callable[..., Run], program: Program) -> None:
    made = run("model=conditional_vae")
    code, printed = program("prior", str(made.path), str(made.path / "none"), *SMALL)
    assert code == 1
    errors = [line for line in printed.splitlines() if line.startswith("error:")]
    assert len(errors) == 2
    assert "no prior is fitted to codes of images given their label" in errors[0]
    assert "is not a run folder" in errors[1]


def test_too_large_a_codebook_is_refused(
    run: Callable[..., Run], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaezoo.training.index_prior.MOST_CODES", 7)
    code, printed = program("prior", str(run().path), *SMALL)
    assert code == 1
    assert "indices of at most 7 codes, and these have 8; choose a smaller codebook or grid" in printed


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("width=10", "prior.width must be a multiple of 4, got 10"),
        ("epochs=0", "prior.epochs must be at least 1, got 0"),
        ("epochs=many", "prior.epochs must be int, got 'many'"),
        ("widht=8", "prior.widht is not a setting here; did you mean 'width'?"),
        ("device=foo", "prior.device=foo is not available on this machine"),
    ],
)
def test_a_mistake_is_told_before_the_first_run(mistake: str, sentence: str, program: Program, tmp_path: Path) -> None:
    code, printed = program("prior", str(tmp_path), mistake)
    assert code == 1
    assert sentence in printed
    assert len(printed.strip().splitlines()) == 1

"""The mixture that an evaluation fits to training codes is kept in the run folder, and drawn from on request."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import vaezoo
from tests.conftest import some_models
from vaezoo import Run
from vaezoo.config.errors import RunError
from vaezoo.evaluation.inputs import Inputs
from vaezoo.evaluation.settings import QUICK, with_changes
from vaezoo.metrics import mixtures
from vaezoo.metrics.mixtures import fit_mixture

Train = Callable[..., Run]
Program = Callable[..., tuple[int, str]]
SIZES = {
    "images": 40,
    "train_images": 100,
    "samples": 20,
    "k": 2,
    "pairs": 5,
    "paths": 2,
    "steps": 3,
    "perceptual_images": 2,
}
WORDS = ("quick=true", *(f"{name}={value}" for name, value in SIZES.items()))


@pytest.fixture
def evaluated(train: Train, program: Program) -> Callable[..., Run]:
    def run(*overrides: str) -> Run:
        made = train("run", *overrides)
        code, printed = program("evaluate", str(made.path), *WORDS)
        assert code == 0, printed
        return made

    return run


@pytest.mark.parametrize("variant", some_models(2))
def test_a_loaded_model_draws_from_the_mixture_of_its_evaluation(variant: str, evaluated: Callable[..., Run]) -> None:
    run = evaluated(f"model={variant}")
    model = vaezoo.load(run.path)
    if model.is_conditional:
        assert model.mixture is None
        return
    settings = with_changes(QUICK, SIZES)
    inputs = Inputs(run.data(), settings, model.device)
    again = fit_mixture(inputs.map(model.encode, inputs.train), seed=settings.seed)
    drawn = again.sample(settings.samples, torch.Generator().manual_seed(settings.seed))
    with torch.no_grad():
        expected = model.decode(model.project(drawn))
    found = model.sample(settings.samples, torch.Generator().manual_seed(settings.seed), prior="mixture")
    torch.testing.assert_close(found, expected)
    assert model.mixture is not None
    assert all(map(torch.equal, model.mixture[:3], again[:3]))


def test_training_keeps_the_mixture_too_and_only_for_the_same_weights(train: Train) -> None:
    run = train("run", "evaluation=quick", "trainer.max_epochs=3")
    kept = run.mixture
    assert kept is not None
    assert (kept["checkpoint"], len(kept["weights"])) == ("best", 10)
    assert run.model().mixture is not None
    assert run.model("last").mixture is None
    (run.path / "mixture.json").write_text(json.dumps(kept | {"step": kept["step"] + 1}))
    with pytest.raises(ValueError, match="none was fitted to the codes of this model"):
        run.model().sample(1, prior="mixture")
    (run.path / "mixture.json").unlink()
    assert run.mixture is None
    assert run.model().mixture is None


def test_a_damaged_mixture_is_named_and_fitted_again(evaluated: Callable[..., Run], program: Program) -> None:
    run = evaluated()
    file = run.path / "mixture.json"
    sound = file.read_text()
    for text in ("{", json.dumps(json.loads(sound) | {"means": [[0.0]]})):
        file.write_text(text)
        with pytest.raises(RunError, match=r"mixture\.json .*; run vaezoo evaluate .* again"):
            run.model()
        code, printed = program("evaluate", str(run.path), *WORDS)
        assert code == 0, printed
        assert file.read_text() == sound


def test_codes_of_many_dimensions_have_a_mixture_on_their_principal_axes(evaluated: Callable[..., Run]) -> None:
    run = evaluated("model=ae", "model.latent_dim=257")
    mixture, evaluation = run.model().mixture, run.evaluation
    assert mixture is not None
    assert evaluation is not None
    assert evaluation["metrics"]["mixture_fd_classifier"]["axes"] == f"{mixture.axes} of 257"
    assert mixture.axes == 5  # one for each 20 of 100 codes
    assert run.model().sample(3, prior="mixture").shape == (3, 1, 16, 16)


def test_codes_of_too_many_dimensions_leave_no_mixture(
    evaluated: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixtures, "MOST_DIMENSIONS", 256)
    run = evaluated("model.latent_dim=257")
    assert run.mixture is None
    assert run.evaluation is not None
    assert "257" in run.evaluation["metrics"]["mixture_fd_classifier"]["reason"]
    with pytest.raises(ValueError, match="at most 256 dimensions, and these have 257"):
        run.model().sample(1, prior="mixture")


def test_an_export_has_no_mixture_and_says_so(evaluated: Callable[..., Run], program: Program, tmp_path: Path) -> None:
    run = evaluated("model=rae")
    code, printed = program("export", str(run.path), f"out={tmp_path / 'out' / 'model'}")
    assert code == 0, printed
    model = vaezoo.load(tmp_path / "out" / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.fit_prior\(codes\)"):
        model.sample(1, prior="mixture")

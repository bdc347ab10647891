"""Numbers of runs side by side: gathering, grouping, intervals, verdicts and fairness, against closed forms."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from vaezoo import Run
from vaezoo.comparison import RunRecord, check, estimate, fairness, gather, group, sweeps, unranked, verdict
from vaezoo.comparison.architecture import layers
from vaezoo.comparison.groups import SeedGroup, short
from vaezoo.comparison.report.tables import tables
from vaezoo.comparison.statistics import difference, figures, holm
from vaezoo.models import AE, IAFVAE, VAE, Autoencoder, BetaVAE, SphericalVAE

Train = Callable[..., Run]


def record(seed: int = 0, **changes: Any) -> RunRecord:
    """A finished run that exists in memory alone; ``model_beta=4`` changes a setting, ``elbo=-90`` a metric."""
    model: dict[str, Any] = {"_target_": "vaezoo.models.BetaVAE", "latent_dim": 10, "network": "mlp", "beta": 1.0}
    model |= {"likelihood": "bernoulli", "optimizer": {"name": "Adam", "lr": 0.001}}
    data = {"name": "digits", "image_shape": [1, 16, 16], "train": 1200, "val": 297, "test": 300, "split_seed": 0}
    data |= {"binarize": "none", "skipped": 0}
    summary: dict[str, Any] = {"seed": seed, "likelihood": "bernoulli", "objective": "recon + kl", "data": data}
    summary |= {"parameters": 100, "steps": 760, "cost": {"seconds": 5.0}, "environment": {"device_name": "x"}}
    metrics: dict[str, Any] = {}
    for name, value in changes.items():
        if name.startswith("model_"):
            model[name.removeprefix("model_")] = value
        elif name.startswith("data_"):
            data[name.removeprefix("data_")] = value
        elif name in summary:
            summary[name] = value
        elif name != "vectors":
            metrics[name] = value if isinstance(value, dict) else {"value": value}
    config = {"model": model, "data": {"source": "digits", "batch_size": 32}, "trainer": {"max_epochs": 20}}
    evaluation = {"schema": 1, "metrics": metrics, "vectors": changes.get("vectors", {})}
    return RunRecord(Path(f"run-{seed}"), config, summary, evaluation)


def seed_group(label: str, values: list[float], seeds: list[int] | None = None, name: str = "elbo") -> SeedGroup:
    """A seed group with one value of a metric per seed."""
    records = [record(seed, **{name: value}) for seed, value in zip(seeds or range(len(values)), values, strict=False)]
    return SeedGroup(label, {}, records)


# statistics ----------------------------------------------------------------------------------------------------------


def test_an_interval_over_seeds_is_the_t_interval():
    values = {0: 1.0, 1: 2.0, 2: 4.0}
    found = estimate(values)
    low, _ = stats.ttest_1samp(list(values.values()), 0).confidence_interval()
    assert found.mean == pytest.approx(7 / 3)
    assert found.mean - found.half == pytest.approx(low)


def test_one_seed_has_no_interval():
    assert estimate({0: 3.0}).half is None
    assert estimate({}) is None


def test_variants_of_equal_seeds_are_tested_in_pairs():
    one, other = seed_group("a", [1.0, 2.0, 3.0]), seed_group("b", [0.8, 1.9, 2.7])
    expected = stats.ttest_rel([1.0, 2.0, 3.0], [0.8, 1.9, 2.7])
    found = difference(one, other, "elbo")
    assert found.method == "paired over seeds"
    assert found.p == pytest.approx(expected.pvalue)
    assert found.mean - found.half == pytest.approx(expected.confidence_interval().low)


def test_variants_of_other_seeds_are_tested_by_welch():
    one, other = [1.0, 2.0, 3.5], [0.1, 0.3]
    expected = stats.ttest_ind(one, other, equal_var=False)
    found = difference(seed_group("a", one), seed_group("b", other), "elbo")
    assert found.method == "Welch"
    assert found.p == pytest.approx(expected.pvalue)
    assert found.mean + found.half == pytest.approx(expected.confidence_interval().high)


def with_images(label: str, images: np.ndarray) -> SeedGroup:
    """A seed group with the ELBO of each image, (seeds, images)."""
    rows = [record(seed, elbo=row.mean(), vectors={"elbo_of_images": row.tolist()}) for seed, row in enumerate(images)]
    return SeedGroup(label, {}, rows)


def test_scatter_over_images_widens_a_paired_interval_by_its_own_variance():
    one, other = np.random.default_rng(0).normal(size=(2, 4, 50))
    found = difference(with_images("a", one), with_images("b", other), "elbo")
    seeds = (one - other).mean(1).var(ddof=1) / 4
    images = (one - other).mean(0).var(ddof=1) / 50
    assert found.method == "paired over seeds and images"
    assert found.half == pytest.approx(stats.t.ppf(0.975, 3) * np.sqrt(seeds + images))


def test_single_seeds_are_compared_over_images_and_never_tested():
    one, other = np.random.default_rng(0).normal(size=(2, 1, 50))
    found = difference(with_images("a", one), with_images("b", other), "elbo")
    assert found.p is None
    assert found.half == pytest.approx(1.96 * (one - other)[0].std(ddof=1) / np.sqrt(50))
    assert verdict([with_images("a", one), with_images("b", other)], "elbo", "higher").status == "untested"


def test_holm_multiplies_by_what_is_left_and_never_falls():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_five_clear_seeds_are_ahead_and_six_are_best():
    better, worse = [5.0, 5.1, 5.2, 5.0, 5.1, 5.15], [1.0, 1.2, 1.1, 1.05, 1.3, 1.1]
    for seeds, status in ((3, "ahead"), (5, "ahead"), (6, "best")):
        found = verdict([seed_group("a", worse[:seeds]), seed_group("b", better[:seeds])], "elbo", "higher")
        assert (found.status, found.leader) == (status, "b")


def test_no_sentence_has_stars_and_overlapping_seeds_are_not_distinguishable():
    found = verdict([seed_group("a", [1.0, 3.0, 2.0]), seed_group("b", [2.1, 1.0, 3.2])], "elbo", "higher")
    assert found.status == "level"
    assert found.level_with == ("a",)
    assert "not distinguishable" in found.sentence
    assert "*" not in found.sentence


def test_the_direction_decides_who_leads():
    two = [seed_group("a", [1.0, 1.1, 1.05], name="mse"), seed_group("b", [5.0, 5.1, 5.2], name="mse")]
    assert verdict(two, "mse", "lower").leader == "a"
    assert verdict(two, "mse", "higher").leader == "b"
    assert verdict(two, "mse", "") is None


def test_numbers_that_no_seed_changes_differ_for_sure():
    found = verdict([seed_group("a", [100.0, 100.0]), seed_group("b", [120.0, 120.0])], "elbo", "lower")
    assert (found.status, found.leader) == ("best", "a")
    equal = verdict([seed_group("a", [100.0, 100.0]), seed_group("b", [100.0, 100.0])], "elbo", "lower")
    assert equal.status == "level"


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (-95.123, 0.42, "−95.12"),
        (0.81234, 0.091, "0.812"),
        (217876, None, "217,876"),
        (1234.56, None, "1,230"),
        (0.0131, None, "0.0131"),
        (23.4, 12, "23"),
    ],
)
def test_a_number_has_as_many_digits_as_its_interval_leaves_it(value: float, half: float | None, text: str):
    assert figures(value, half) == text


# seed groups ---------------------------------------------------------------------------------------------------------


def test_runs_that_differ_in_seed_alone_are_one_variant():
    found = group([record(1), record(0), record(0, model_beta=4.0)])
    assert [(seed_group.label, seed_group.seeds) for seed_group in found[0].seed_groups] == [
        ("BetaVAE beta=1", [0, 1]),
        ("BetaVAE beta=4", [0]),
    ]


def test_a_second_run_of_the_same_seed_is_left_out_by_name():
    found = group([record(0), record(0)])
    assert len(found[0].seed_groups[0].records) == 1
    assert "configuration and seed" in found[0].refused[0].reason


def test_runs_without_other_classes_or_on_other_columns_are_variants_of_their_own():
    found = [record(0), record(0), record(0)]
    found[1].config["data"]["leave_out"] = [3]
    found[2].config["data"]["columns"] = ["a", "b"]
    (one,) = group(found)
    assert sorted(each.label for each in one.seed_groups) == [
        "BetaVAE columns=['a', 'b'] leave_out=none",
        "BetaVAE columns=none leave_out=[3]",
        "BetaVAE columns=none leave_out=none",
    ]
    assert not one.refused


def test_data_that_were_binarised_differently_are_groups_apart():
    found = group([record(), record(data_binarize="dynamic"), record(data_name="mnist")])
    assert len(found) == 3


def test_data_of_other_levels_or_another_fit_are_groups_apart():
    found = group([record(), record(data_fit="crop", data_range="full"), record(data_range=[0, 4095])])
    found += group([record(data_fit="pad"), record(data_fit="stretch", data_range=[0, 1])])
    names = ["", ", levels 0 to 4095", ", padded", ", stretched, levels 0 to 1"]
    assert [each.name for each in found] == [f"digits, 1×16×16{name}" for name in names]


def test_a_setting_is_named_without_its_group_and_options():
    names = ("model.beta", "model.optimizer.lr", "model.penalty_options.weight")
    assert [short(name) for name in names] == ["beta", "optimizer.lr", "weight"]


def test_a_sweep_joins_variants_that_differ_in_one_number_in_its_order():
    records = [record(model_beta=beta, model_latent_dim=size) for beta in (16.0, 4.0, 1.0) for size in (2, 10)]
    found = sweeps(group(records)[0].seed_groups)
    betas = [[seed_group.settings["model.beta"] for seed_group in row] for setting, row in found if setting == "beta"]
    assert betas == [[1.0, 4.0, 16.0]] * 2
    assert len([1 for setting, _ in found if setting == "latent_dim"]) == 3


# fairness ------------------------------------------------------------------------------------------------------------


def findings(*records: RunRecord) -> dict[str, Any]:
    found = group(records)
    return {finding.topic: finding for finding in check(found[0])}


def test_equal_runs_have_nothing_against_them():
    found = findings(record(0), record(1), record(0, model_beta=4.0), record(1, model_beta=4.0))
    assert {finding.severity for finding in found.values()} == {"equal"}
    assert not unranked(list(found.values()))


def test_unequal_steps_forbid_a_ranking_and_name_who_has_what():
    found = findings(record(), record(model_beta=4.0, steps=1520))["optimiser steps"]
    assert found.severity == "invalid"
    assert dict(found.values) == {"BetaVAE beta=1": "760", "BetaVAE beta=4": "1,520"}
    assert "psnr" in found.unranked
    assert "seconds" not in found.unranked


def test_a_run_that_was_changed_on_the_way_or_skipped_steps_is_no_equal_of_others():
    usual, other = record(seed=0), record(seed=1)
    other.summary["changed"] = [{"step": 8, "key": "model.beta", "was": 4.0, "now": 8}]
    other.summary["skipped_steps"] = 3
    found = findings(usual, other)
    assert found["settings changed while training"].severity == found["skipped steps"].severity == "warning"
    assert "model.beta 4.0 -> 8 at step 8" in str(found["settings changed while training"])


def test_bounds_given_the_label_are_never_beside_others() -> None:
    """Neither in a table nor in a ranking, though the numbers of runs without evaluation.json are their own test's."""
    plain, given = record(elbo=-90.0), record(model_classes=10, elbo_given_label=-80.0)
    given.summary |= {"given_label": True, "test": {"elbo_given_label": -80.0}}
    (found,) = group([plain, given])
    assert set(found.likelihoods) == {"bernoulli", "bernoulli given the label"}
    findings = {finding.topic: finding for finding in check(found)}
    assert findings["labels"].severity == "warning"
    by_title = {table.title: table for table in tables(found, {})}
    for title, row in {"bernoulli": "elbo", "bernoulli given the label": "elbo_given_label"}.items():
        table = by_title[f"Likelihood: {title}"]
        assert [column.metric.name for column in table.columns] == [row]
        assert len(table.rows) == 1
    assert [column.metric.name for column in by_title["At a glance"].columns] == ["seconds"]


def test_other_test_images_forbid_every_ranking():
    found = findings(record(), record(model_beta=4.0, data_split_seed=1))["test images"]
    assert {"elbo", "psnr", "probe_accuracy"} <= found.unranked


def test_another_machine_makes_times_unranked_but_not_quality():
    found = findings(record(), record(model_beta=4.0, environment={"device_name": "y"}))["device"]
    assert "seconds" in found.unranked
    assert "elbo" not in found.unranked


def trained(seed: int, start: float, end: float, machine: str = "m", runs_at_once: int = 1) -> RunRecord:
    """A run that trained between two times on a machine."""
    cost = {"seconds": end - start, "runs_at_once": runs_at_once, "sessions": [[start, end]]}
    return record(seed, cost=cost, environment={"device_name": "x", "machine": machine})


def test_runs_of_one_machine_at_the_same_time_have_times_that_are_not_ranked():
    found = findings(trained(0, 100, 110), trained(1, 105, 115), trained(2, 200, 210))["shared machine"]
    assert found.severity == "warning"
    assert found.unranked == {"seconds", "images_per_second"}
    assert found.sentence.startswith("2 of 3 runs trained while others used the same machine")
    assert unranked([found])["seconds"] == "runs shared the machine"


def test_a_run_beside_others_that_are_not_compared_is_known_by_its_own_record():
    found = findings(trained(0, 100, 110, runs_at_once=2), trained(1, 200, 210))["shared machine"]
    assert found.sentence.startswith("1 of 2 runs")


def test_runs_one_after_another_or_on_machines_of_their_own_shared_nothing():
    after, elsewhere = trained(1, 110, 120), trained(2, 100, 110, machine="another")
    assert findings(trained(0, 100, 110), after, elsewhere)["shared machine"].severity == "equal"


@pytest.mark.parametrize("said", [None, 3, "x", [[1]], [["a", "b"]], [[1, 2, 3]], [None]])
def test_a_record_that_does_not_say_when_it_trained_shared_nothing(said: Any):
    one, other = trained(0, 100, 110), trained(1, 105, 115)
    one.summary["cost"]["sessions"] = said
    assert findings(one, other)["shared machine"].severity == "equal"


def test_another_number_of_draws_forbids_to_rank_that_number_alone():
    one = record(iw_bound={"value": -90.0, "n": 300, "k": 500}, psnr={"value": 20.0, "n": 300})
    other = record(model_beta=4.0, iw_bound={"value": -91.0, "n": 300, "k": 50}, psnr={"value": 21.0, "n": 300})
    other.evaluation["metrics"]["psnr"]["of_factors"] = {"class": 0.5}  # results and no sizes
    other.evaluation["metrics"]["psnr"]["note"] = "at its limit"
    assert findings(one, other)["sample sizes"].unranked == {"iw_bound"}


def test_dimensions_that_a_score_leaves_out_are_no_sample_size():
    one, other = (record(factor_vae_score={"value": 0.5, "n": 100, "live_dimensions": live}) for live in (4, 10))
    assert findings(one, other)["sample sizes"].severity == "equal"


def test_a_network_that_changes_with_the_objective_is_red_and_alone_it_is_not():
    both = findings(record(), record(model_network="conv", objective="recon"))["network"]
    alone = findings(record(), record(model_network="conv"))["network"]
    assert (both.severity, alone.severity) == ("invalid", "note")


class OwnEncoder(VAE):
    """A VAE whose encoder is of another kind, under the settings of a VAE."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 2 * self.latent_dim))


def small(kind: type[Autoencoder], **settings: Any) -> tuple[str, ...]:
    return layers(kind(**{"image_shape": [1, 8, 8], "latent_dim": 3, "widths": [16], **settings}))


def test_layers_are_those_that_an_image_passes_and_an_encoder_of_ones_own_is_seen():
    found = small(VAE)
    assert found[1:3] == ("Linear(64, 16)", "ReLU()")
    assert found[3:5] == ("Linear to the code", "Linear from the code")
    assert small(OwnEncoder) != found
    assert small(OwnEncoder)[2] == "Tanh()"


@pytest.mark.parametrize("network", ["mlp", "conv", "resnet"])
def test_objectives_on_one_network_have_the_same_layers(network: str):
    widths = None if network == "resnet" else [16]
    same = [small(kind, network=network, widths=widths) for kind in (AE, VAE, BetaVAE)]
    same += [small(kind, network=network, widths=widths) for kind in (IAFVAE, SphericalVAE)]
    assert all(layers == same[0] for layers in same)
    assert small(VAE, network=network, widths=[17]) != same[0]


def test_looking_at_layers_leaves_the_model_and_the_random_state_as_they_were():
    model = VAE(image_shape=[1, 8, 8], latent_dim=3).train()
    state = torch.get_rng_state()
    layers(model)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())


def test_networks_are_told_apart_by_their_layers_and_not_by_their_settings(train: Train):
    one, other = train("one", "model=vae"), train("other", "model=beta_vae")
    records, _ = gather([one.path, other.path])
    assert findings(*records)["network"].severity == "equal"
    records[1].layers = small(OwnEncoder)  # its config is what it was
    found = findings(*records)["network"]
    assert found.severity == "invalid"
    assert "Tanh()" in dict(found.values)["BetaVAE beta=4"]


def test_the_same_layers_under_other_settings_are_an_equal_network():
    one, other = record(), record(model_network="own", objective="recon")
    one.layers = other.layers = small(VAE)
    assert findings(one, other)["network"].severity == "equal"


def test_the_size_of_discrete_codes_is_in_bits_of_their_indices() -> None:
    runs = [record(code_bits=128.0, perplexity=9.0, model_quantizer=name) for name in ("vq", "fsq")]
    for run, channels in zip(runs, (16, 3), strict=True):
        run.summary |= {"code_shape": [channels, 4, 4]}
    found = {finding.topic: finding for finding in fairness.check(group(runs)[0])}
    assert (found["latent dimensions"].severity, found["latent dimensions"].sentence) == ("equal", "128 bits")
    runs[1].evaluation["metrics"]["code_bits"] = {"value": 144.0}
    runs[1].__dict__.pop("numbers", None)
    found = {finding.topic: finding for finding in fairness.check(group(runs)[0])}
    assert [value for _, value in found["latent dimensions"].values] == ["144 bits", "128 bits"]


def test_a_label_has_no_options_of_others() -> None:
    runs = [
        record(model_quantizer="vq", model_quantizer_options={"size": 64}),
        record(model_quantizer="vq", model_quantizer_options={"size": 64, "restart": 0}),
        record(model_quantizer="fsq", model_quantizer_options={"levels": [8, 8]}),
    ]
    assert [row.label for row in group(runs)[0].seed_groups] == [
        "BetaVAE quantizer=fsq levels=[8, 8]",
        "BetaVAE quantizer=vq restart=0 size=64",
        "BetaVAE quantizer=vq size=64",
    ]


@pytest.mark.parametrize("callback", ["vaezoo.training.callbacks.AveragedWeights", "own.EMAWeightAveraging"])
def test_runs_with_averaged_weights_are_no_seeds_of_runs_without(callback: str) -> None:
    plain, averaged = record(0), record(1)
    averaged.config["callbacks"] = {"ema": {"_target_": callback, "decay": 0.999}}
    assert sorted(row.seeds for row in group([plain, averaged])[0].seed_groups) == [[0], [1]]


def test_a_label_has_the_weight_that_other_models_lack():
    other = record(objective="recon", model__target_="vaezoo.models.AE")
    del other.config["model"]["beta"]
    found = group([other, record(model_beta=4.0, objective="recon + 4 kl", model_latent_dim=4, model_capacity_steps=9)])
    assert [seed_group.label for seed_group in found[0].seed_groups] == ["AE", "BetaVAE beta=4"]


# gathering -----------------------------------------------------------------------------------------------------------


def test_a_folder_stands_for_the_runs_in_it_and_each_is_taken_once(train: Train, tmp_path: Path):
    run = train("vae")
    records, refused = gather([tmp_path, run.path])
    assert [run_record.path for run_record in records] == [run.path]
    assert not refused
    assert records[0].value("psnr") == run.summary["test"]["psnr"]
    assert "vaezoo evaluate" in records[0].note


def test_what_cannot_be_compared_is_named_and_the_rest_is_kept(train: Train, tmp_path: Path):
    good, unfinished, corrupt, other = (train(name) for name in ("good", "unfinished", "corrupt", "other"))
    summary = unfinished.summary | {"status": "interrupted"}
    (unfinished.path / "summary.json").write_text(json.dumps(summary))
    corrupt.checkpoint().write_bytes(corrupt.checkpoint().read_bytes()[:1000])
    _change_checkpoint(other)
    (tmp_path / "empty").mkdir()
    records, refused = gather(
        [good.path, unfinished.path, corrupt.path, other.path, tmp_path / "empty", tmp_path / "no"]
    )
    reasons = {refusal.path.name: refusal.reason for refusal in refused}
    assert [run_record.path for run_record in records] == [good.path]
    assert "interrupted" in reasons["unfinished"]
    assert "damaged" in reasons["corrupt"]
    assert "does not fit" in reasons["other"]
    assert "not a run folder" in reasons["empty"]
    assert "not a run folder" in reasons["no"]


def _change_checkpoint(run: Run) -> None:
    import torch

    content = torch.load(run.checkpoint(), weights_only=True)
    content["hyper_parameters"]["gone_in_this_version"] = 1
    torch.save(content, run.checkpoint())


@pytest.mark.parametrize("text", ["{", '{"schema": 99}', "[]"])
def test_an_unusable_evaluation_is_said_and_trainings_own_numbers_are_taken(train: Train, text: str):
    run = train("vae")
    (run.path / "evaluation.json").write_text(text)
    records, _ = gather([run.path])
    assert "rewrite it with vaezoo evaluate" in records[0].note
    assert records[0].value("elbo") == run.summary["test"]["elbo"]


def test_a_metric_that_is_not_defined_has_a_reason_and_hides_no_other_number(train: Train):
    run = train("vae")
    metrics = {"elbo": {"value": None, "reason": "no posterior"}, "psnr": {"value": float("nan")}}
    (run.path / "evaluation.json").write_text(json.dumps({"schema": 1, "metrics": metrics}))
    (run_record,), _ = gather([run.path])
    assert run_record.value("elbo") is None
    assert run_record.numbers["elbo"].reason == "no posterior"
    assert run_record.numbers["psnr"].reason == "not finite"


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        ({"code_shape": [10], "manifold_dim": 10}, "10"),
        ({"code_shape": [11], "manifold_dim": 10}, "10"),
        ({"code_shape": [8], "manifold_dim": 0}, "8"),
        ({"code_shape": [4, 2, 3], "manifold_dim": 24}, "4 × 2 × 3"),
        ({"code_shape": []}, "7"),
    ],
)
def test_a_sphere_is_compared_by_the_dimensions_of_its_surface(summary: dict[str, Any], said: str) -> None:
    record: Any = SimpleNamespace(summary=summary, config={"model": {"latent_dim": 7}}, value=lambda name: None)
    assert fairness._dimensions(record) == said

"""The page of results says what the stored numbers say, and its commands can be run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import results
import throughput
from tests.comparison.test_comparison import record, seed_group
from vaezoo.benchmark import grid
from vaezoo.commands import prior
from vaezoo.comparison.groups import SeedGroup, group
from vaezoo.config.errors import RunError
from vaezoo.metrics.catalogue import CATALOGUE

STUDIES = results.studies()
METRICS = set(CATALOGUE)


def test_the_page_is_made_from_the_stored_numbers() -> None:
    assert results.PAGE.read_text() == results.page()
    assert {path.stem for path in results.RESULTS.glob("*.json")} <= STUDIES.keys()


LARGE = ("zoo", "anomalies")
"""Studies of so many runs that composing their configs takes long."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly if name in LARGE else ()) for name in STUDIES]
)
def test_a_study_has_commands_that_can_be_run_and_metrics_that_exist(name: str) -> None:
    study = STUDIES[name]
    for command in results.commands(study, "out"):
        if command[1] == "prior":
            assert prior.read(command[2:])
        elif command[0] == "vaezoo":
            assert grid.read_cells(grid.read(command[2:]))
        else:
            assert throughput.parse(command[2:]).contestants
    assert set(study["metrics"]) <= METRICS
    for wanted in study.get("expected", []):
        assert len(wanted.keys() & {"least", "most"}) == 1


def stored(study: str) -> dict[str, Any]:
    rows: dict[str, Any] = results.stored(study)["rows"]
    return rows


def test_the_lesson_has_the_numbers_of_its_studies() -> None:
    lesson = " ".join((results.PAGE.parent / "learn.md").read_text().split())
    forms = {
        "kl": ".1f",
        "recon": ".0f",
        "elbo": ".0f",
        "psnr": ".1f",
        "prior_fd_classifier": ".0f",
        "active_units": ".0f",
    }
    for label, row in stored("betas").items():
        cells = [format(row["metrics"][name]["0"], form) for name, form in forms.items()]
        line = " | ".join([label.partition("beta=")[2], *cells])
        assert f"| {line} |".replace("-", "−") in lesson
    ae, vae = ({name: of.get("0") for name, of in stored("planes")[name]["metrics"].items()} for name in ("AE", "VAE"))
    assert f"`recon` is {ae['recon']:.1f} nats for the autoencoder and {vae['recon']:.1f} for the VAE" in lesson
    assert f"Its `kl` is {vae['kl']:.1f} nats" in lesson
    assert f"its `elbo` is {vae['elbo']:.1f}." in lesson
    both = {name: (ae[name], vae[name]) for name in ae if name.startswith(("step_ratio", "interpolation"))}
    even = "is {:.1f} times as long as the mean step with the autoencoder, and {:.1f} times with the VAE"
    assert even.format(*both["step_ratio_pixels_linear"]) in lesson
    assert "is {:.0f} with the autoencoder and {:.0f} with the VAE".format(*both["interpolation_fd_linear"]) in lesson
    assert "At the ends it is {:.0f} and {:.0f}.".format(*both["interpolation_fd_endpoints"]) in lesson


def text_of(page: str) -> str:
    return " ".join((results.PAGE.parent / page).read_text().split())


def test_a_number_to_check_is_that_of_its_study() -> None:
    page, vae = text_of("use/train.md"), stored("first")["VAE"]["metrics"]
    assert f"| -ELBO | {-vae['elbo']['0']:.2f} nats |" in page
    assert f"| recon | {vae['recon']['0']:.2f} nats |" in page
    assert f"| KL | {vae['kl']['0']:.2f} nats |" in page
    assert f"| bits per dimension | {vae['bits_per_dim']['0']:.4f} |" in page


def test_the_printed_scores_of_anomalies_are_those_of_their_studies() -> None:
    page = text_of("use/encode-score-render.md")
    for name, of in stored("ones")["VAE"]["metrics"].items():
        assert f"│ {name.removeprefix('auroc_')} │ {of['0']:.3f} (" in page
    binary = stored("anomalies")["VAE"]["metrics"]
    bound, distance = (binary[f"auroc_{name}"]["1"] for name in ("neg_elbo", "knn_distance"))
    assert f"the AUROC of `neg_elbo` is {bound:.2f} and that of `knn_distance` {distance:.2f}" in page


def test_the_numbers_of_an_encoder_as_a_critic_are_those_of_its_study() -> None:
    page, rows = text_of("zoo/families.md"), stored("introspection")
    elbos, distances = (
        [results.cell(rows[name]["metrics"][metric]) for name in ("SoftIntroVAE", "VAE")]
        for metric in ("elbo", "prior_fd_classifier")
    )
    assert "an ELBO of {} against {} and a `prior_fd_classifier` of {} against {}".format(*elbos, *distances) in page


def conclusion(study: str) -> str:
    return " ".join(STUDIES[study]["conclusion"].split())


def means(study: str, metric: str) -> dict[str, float]:
    """Rows that have the metric, by label."""
    found = {label: results.mean(row["metrics"][metric]) for label, row in stored(study).items()}
    return {label: value for label, value in found.items() if value is not None}


def span(values: Iterable[float], form: str) -> str:
    found = sorted(values)
    return f"{found[0]:{form}} to {found[-1]:{form}}"


def test_the_conclusion_of_the_zoo_has_its_numbers() -> None:
    bounds = means("zoo", "iw_bound")
    weights = ("BetaVAE beta=4", "BetaTCVAE weight=5", "DIPVAE weight=10", "FactorVAE weight=35")
    assert f"cost {span((bounds['VAE'] - bounds[name] for name in weights), '.0f')} nats" in conclusion("zoo")
    ahead, behind = bounds["LadderVAE"] - bounds["VAE"], bounds["VAE"] - bounds["HierarchicalVAE"]
    assert f"is {ahead:.1f} nats ahead of the VAE" in conclusion("zoo")
    assert f"NVAE's posterior {behind:.1f} nats behind" in conclusion("zoo")
    straight, spherical = (means("zoo", f"interpolation_fd_{path}") for path in ("linear", "spherical"))
    gains = {name: straight[name] - spherical[name] for name in straight}
    assert "gain {VAE:.1f} with the VAE, {AE:.1f} with the AE and {RAE:.1f} with the RAE".format(**gains) in conclusion(
        "zoo"
    )
    assert [name for name, gain in gains.items() if gain < 0.1] == ["SphericalVAE"]


def test_the_conclusion_about_the_plane_has_its_numbers() -> None:
    ends, between = (means("planes", f"interpolation_fd_{part}") for part in ("endpoints", "linear"))
    assert "already ({VAE:.1f} against {AE:.1f})".format(**ends) in conclusion("planes")
    assert "half way ({VAE:.1f} against {AE:.1f})".format(**between) in conclusion("planes")


def test_the_conclusion_about_unseen_digits_has_its_numbers() -> None:
    ones = {
        name: [
            row["metrics"][f"auroc_{name}"]["1"]
            for row in stored("anomalies").values()
            if "1" in row["metrics"][f"auroc_{name}"]
        ]
        for name in ("mse", "recon", "neg_elbo", "knn_distance", "mahalanobis")
    }
    text = conclusion("anomalies")
    assert f"({span([*ones['mse'], *ones['recon'], *ones['neg_elbo']], '.2f')})" in text
    least, most = sorted(ones["knn_distance"])[:: len(ones["knn_distance"]) - 1]
    assert f"at {least:.2f} (AE) to {most:.2f} (VAE)" in text
    assert f"Mahalanobis distance at {span(ones['mahalanobis'], '.2f')}" in text
    beta, vae = (stored("anomalies")[name]["metrics"]["auroc_mse"] for name in ("BetaVAE beta=4", "VAE"))
    assert f"beta-VAE is {results.cell({digit: beta[digit] - vae[digit] for digit in vae})} ahead of the VAE" in text


SHORTER = {"IWAE": "IWAE samples=5", "VAE": "VAE"}
"""Rows of the study of a tenth of the budget, and the same models in that of ten epochs."""


def test_the_conclusions_about_bounds_have_their_numbers() -> None:
    bound, elbo = means("bounds", "iw_bound"), means("bounds", "elbo")
    assert abs(bound["VAE"] - bound["HierarchicalVAE bound=elbo"]) < 0.1, "cannot be told apart"
    short = [value - bound[name] for name, value in STUDIES["bounds"]["published"]["values"].items()]
    assert f"is {min(short):.0f} to {max(short):.0f} nats short of its published value" in conclusion("bounds")
    one_layer = [value for name, value in bound.items() if not name.startswith("HierarchicalVAE")]
    assert max(one_layer) - min(one_layer) < 5
    worse = bound["IWAE samples=5"] - bound["HierarchicalVAE bound=iwae samples=5"]
    assert f"with five they are {worse:.1f} nats worse" in conclusion("bounds")
    assert f"encoder {elbo['IWAE samples=5'] - elbo['IWAE samples=50']:.0f} nats worse" in conclusion("bounds")
    published = STUDIES["tenth"]["published"]["values"]
    longer = means("tenth", "iw_bound")
    gaps = {name: [published[name] - of for of in (longer[name], bound[short])] for name, short in SHORTER.items()}
    text = conclusion("tenth")
    assert (
        "IWAE is {:.1f} nats from its published value and the VAE {:.1f}".format(*(gap[0] for gap in gaps.values()))
        in text
    )
    assert "where 10 epochs left {:.1f} and {:.1f}".format(*(gap[1] for gap in gaps.values())) in text
    gains = longer["IWAE"] - longer["VAE"], published["IWAE"] - published["VAE"]
    assert "gain {:.0f} nats here, more than the published {:.1f}".format(*gains) in text
    active = [stored("tenth")[name]["metrics"]["active_units"].values() for name in ("IWAE", "VAE")]
    assert f"{next(iter(active[0])):.0f} against {span(active[1], '.0f')}" in text
    two, text = means("layers", "iw_bound"), conclusion("layers")
    targets = STUDIES["layers"]["published"]["values"]
    assert "{:.1f} and {:.1f} nats short".format(*(targets[name] - two[name] for name in targets)) in text
    of_layers, of_more_layers, of_draws = (found["mean"] for found in results.stored("layers")["differences"])
    assert f"gains {of_layers:.1f} nats with one draw and {of_more_layers:.1f} with five" in text
    one_draw, five_draws = targets.values()
    assert f"five draws gain {of_draws:.1f} nats, close to the published {five_draws - one_draw:.1f}" in text
    assert f"more than the published {one_draw - published['VAE']:.1f}" in text
    elbo = means("draws", "elbo")
    assert f"the ELBO is {elbo['MIWAE groups=4'] - elbo['IWAE']:.0f} nats higher" in conclusion("draws")


def test_the_conclusion_about_disentanglement_has_its_numbers() -> None:
    text, rows, rates = conclusion("disentanglement"), stored("disentanglement"), means("disentanglement", "kl")
    falling = rates["VAE"], rates["BetaVAE beta=4"], rates["BetaTCVAE weight=5"]
    assert "from {:.1f} nats (VAE) to {:.1f} (beta-VAE) and {:.1f} (beta-TCVAE)".format(*falling) in text
    assert f"grows to {rates['FactorVAE weight=35 lr=0.0001']:.0f} nats" in text
    assert f"falls to {means('disentanglement', 'total_correlation')['FactorVAE weight=35 lr=0.0005']:.1f}." in text
    assert f"score of the VAE is {span(rows['VAE']['metrics']['factor_vae_score'].values(), '.2f')} by seed" in text
    assert all(
        score < 0.1
        for row in rows.values()
        for name in ("mig", "dci_disentanglement", "sap")
        for score in row["metrics"][name].values()
    )


def test_the_conclusions_about_critics_and_costs_have_their_numbers() -> None:
    rates, elbos = means("tokenizers", "kl"), means("introspection", "elbo")
    times = (
        next(rate for label, rate in rates.items() if label.startswith("AutoencoderKL"))
        / rates["VQVAE commitment=0.25"]
    )
    assert (round(times), "seven times the bits" in conclusion("tokenizers")) == (7, True)
    gap = elbos["VAE"] - elbos["SoftIntroVAE"]
    assert (round(2 * gap), "half a nat" in conclusion("introspection")) == (1, True)
    rows = stored("cost")
    costs = [rows[name][state]["cost"][0] for name in ("beta_vae", "dip_vae") for state in results.STATES]
    assert f"their costs are {span(costs, '.1f')}" in conclusion("cost")
    quiet, busy = (rows["vae"][state]["images_per_cpu_second"] for state in results.STATES)
    assert (round(3 * (quiet / busy - 1)), "a third more processor time" in conclusion("cost")) == (1, True)
    assert all(row["busy"]["cost"][0] <= row["quiet"]["cost"][0] for row in rows.values())


@pytest.fixture
def rows() -> dict[str, SeedGroup]:
    return {"VAE": seed_group("VAE", [-100.0, -101.0, -99.0]), "IWAE": seed_group("IWAE", [-98.0, -98.5, -97.5])}


def test_a_difference_is_held_against_what_was_expected(rows: dict[str, SeedGroup]) -> None:
    wanted: dict[str, Any] = {"first": "IWAE", "second": "VAE", "metric": "elbo"}
    found = results.compare(rows, {**wanted, "least": 0.5})
    assert found["mean"] == pytest.approx(2.0)
    assert found["holds"]
    assert results.in_words(found).endswith("expected at least 0.5: as expected.")
    unsure = results.in_words(results.compare(rows, {**wanted, "least": 1}))
    assert unsure.endswith("expected at least 1: as expected, but the interval includes this bound.")
    assert not results.compare(rows, {**wanted, "least": 3})["holds"]
    assert "**not as expected**" in results.in_words(results.compare(rows, {**wanted, "most": -3}))


def test_two_metrics_are_compared_within_seeds(rows: dict[str, SeedGroup]) -> None:
    found = results.compare(rows, {"first": "IWAE", "second": "VAE", "metric": ["elbo", "elbo"], "least": 0})
    assert found["mean"] == pytest.approx(2.0)
    assert found["half"] == pytest.approx(1.2421, abs=1e-3)  # t(2) = 4.3027 times 0.5 / sqrt 3


def test_rows_of_two_studies_are_compared_within_seeds(
    rows: dict[str, SeedGroup], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "studies", lambda: {"other": {"title": "Other runs"}})
    other = {"IWAE": {"metrics": {"elbo": {"2": -99.5, "1": -100.0, "0": -101.5}}}}
    (tmp_path / "other.json").write_text(json.dumps({"rows": other}))
    wanted = {"first": "IWAE", "second": "IWAE", "study": "other", "metric": "elbo", "least": 0}
    found = json.loads(json.dumps(results.compare(rows, wanted)))
    assert found["mean"] == pytest.approx((3.5 + 1.5 + 2.0) / 3)
    assert found["half"] == pytest.approx(4.3027 * 1.0408 / 3**0.5, abs=1e-3)
    assert results.in_words(found).startswith("IWAE, elbo − IWAE, elbo of [other runs](#other-runs): 2.3 ± 2.6 (paired")
    with pytest.raises(RunError, match="there is no row 'VAE'; the rows are IWAE"):
        results.compare(rows, {**wanted, "second": "VAE"})


def some_numbers(*seeds: int, **changed: Any) -> dict[str, Any]:
    """Numbers as they are stored, of one row whose elbo is -100 minus the seed."""
    row: dict[str, Any] = {"objective": "recon + kl", "seeds": list(seeds), "steps": 10, "sizes": {"elbo": "n = 9"}}
    row |= {"reasons": {}, "metrics": {"elbo": {str(seed): -100.0 - seed for seed in seeds}}}
    spent = {"training": 60.0 * len(seeds), "evaluation": 1.0}
    rows = {changed.pop("label", "VAE"): {**row, **changed}}
    return {"data": "digits", "environment": {"torch": "2"}, "seconds": spent, "rows": rows}


def test_further_seeds_are_added_to_stored_numbers() -> None:
    both = results.added(some_numbers(0, 1), some_numbers(2))
    assert both["rows"] == some_numbers(0, 1, 2)["rows"]
    assert both["seconds"] == {"training": 180.0, "evaluation": 2.0}
    wanted = {"first": "VAE", "second": "VAE", "metric": "elbo", "least": 0}
    other = some_numbers(0, 1, 2, metrics={"elbo": {"0": -101.0, "1": -102.5, "2": -103.0}})["rows"]["VAE"]
    found = results.compare({**both["rows"], "worse": other}, {**wanted, "second": "worse"})
    assert (found["mean"], found["method"], found["holds"]) == (pytest.approx(3.5 / 3), "paired over seeds", True)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (some_numbers(1), "seed 1 of VAE is stored already; leave it out, or write without --add"),
        (some_numbers(2, steps=20), "VAE is stored with the steps 10, but the runs have 20"),
        (some_numbers(2, label="AE"), "further seeds must have the rows VAE, but the rows are AE"),
        ({**some_numbers(2), "data": "mnist"}, "runs can be added to those with the same data, digits, but have mnist"),
    ],
)
def test_what_cannot_be_added_is_refused(new: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError, match=said):
        results.added(some_numbers(0, 1), new)


def test_without_stored_numbers_nothing_can_be_added() -> None:
    with pytest.raises(RunError, match=r"there are no numbers of the study none in .*; train and write it first"):
        results.stored("none")


def test_values_of_a_setting_take_the_place_of_seeds() -> None:
    found = [record(0, auroc_mse=0.5 + digit / 100) for digit in range(3)]
    for digit, one in enumerate(found):
        one.config["data"]["leave_out"] = [digit]
    assert len(group(found)[0].seed_groups) == 3
    (row,) = group(results.across(found, {"setting": "data.leave_out", "name": "digits"}))[0].seed_groups
    assert row.values("auroc_mse") == {0: 0.5, 1: 0.51, 2: 0.52}
    wanted: dict[str, Any] = {"first": "a", "second": "b", "metric": "elbo", "least": 0}
    rows = {"a": seed_group("a", [1.0, 2.0]), "b": seed_group("b", [0.0, 0.5])}
    assert results.compare(rows, wanted, "digits")["method"] == "paired over digits"


def test_a_picture_is_kept_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    (tmp_path / "pictures").mkdir()
    study = {"picture": {"file": "a.png", "alt": "A"}}
    with pytest.raises(RunError, match=r"there is no a\.png in .*; train the study first"):
        results.copy_picture("one", study, tmp_path)
    Image.effect_noise((2000, 1500), 50).save(tmp_path / "a.png")
    results.copy_picture("one", study, tmp_path)
    with Image.open(tmp_path / "pictures" / "results_one.png") as kept:
        assert kept.size == (900, 675)
    results.copy_picture("two", {}, tmp_path)
    assert len(list((tmp_path / "pictures").iterdir())) == 1


def test_a_row_that_is_missing_is_named(rows: dict[str, SeedGroup]) -> None:
    with pytest.raises(RunError, match="there is no row 'MIWAE'; the rows are VAE, IWAE"):
        results.compare(rows, {"first": "MIWAE", "second": "VAE", "metric": "elbo", "least": 0})


def test_a_table_says_what_is_missing(rows: dict[str, SeedGroup]) -> None:
    shown = json.loads(json.dumps({label: results.numbers(row, ["elbo"]) for label, row in rows.items()}))
    text = results.table(["elbo"], shown)
    assert "| VAE | −100.0 ± 2.5 | 3 |" in text
    assert "| IWAE | **−98.0** ± 1.2 | 3 |" in text
    assert "**" not in results.table(["elbo"], {"VAE": shown["VAE"]})
    assert results.cell({}) == "n/a"


def turns(folder: Path, cores: int, *, fast: float = 50.0, busy: int = 0) -> None:
    """Write throughput.json of the VAE and of an IWAE at half its speed, with ``fast`` images per second."""
    machine = {"cpu": "A CPU", "cores": cores, "threads": 1, "memory_bytes": 2**30, "gpu": None, "busy": busy}
    machine |= {"torch": "2", "lightning": "2", "python": "3"}
    ratio = {"median": 0.5, "least": 0.4, "largest": 0.8}
    iwae = {"contestant": "model=iwae", "images_per_cpu_second": {"median": fast}, "ratio_to_model=vae": ratio}
    vae = {"contestant": "model=vae", "images_per_cpu_second": {"median": 1234.0}}
    folder.mkdir(exist_ok=True)
    (folder / "throughput.json").write_text(json.dumps({"machine": machine, "repeats": 2, "summary": [iwae, vae]}))


def test_costs_are_relative_to_the_vae_and_of_one_machine(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no throughput\.json in .*quiet; train the study first"):
        results.read_yardstick({}, tmp_path)
    turns(tmp_path / "quiet", 2)
    turns(tmp_path / "busy", 4, busy=2)
    with pytest.raises(RunError, match="measurements of different machines or numbers of turns"):
        results.read_yardstick({}, tmp_path)
    turns(tmp_path / "busy", 2, fast=40.0, busy=2)
    read = json.loads(json.dumps(results.read_yardstick({}, tmp_path)))
    assert read["machine"].startswith("A CPU, 2 cores, 1 thread, 1 GiB; torch")
    shown = results.costs(read["rows"]).splitlines()[2:]
    assert shown == [
        "| `vae` | 1,234 | 1,234 | 1.0 | 1.0 |",
        "| `iwae` | 50 | 40 | 2.0 (1.2 to 2.5) | 2.0 (1.2 to 2.5) |",
    ]


def test_durations_are_summed_over_runs() -> None:
    runs = [record(seed, elbo=-100.0) for seed in (0, 1)]
    for one, spent in zip(runs, (100.0, 260.0), strict=True):
        one.summary["cost"]["seconds"] = spent
        one.evaluation["seconds"] = spent / 10
    found = {"seconds": results.seconds(runs), "rows": {"VAE": {"seeds": [0, 1]}}}
    assert results.took(found) == " Training took 6 min and evaluation 36 s, summed over 2 runs."
    assert results.took({**found, "rows": {"VAE": {"seeds": [0]}}}).endswith("evaluation 36 s.")
    assert results.took({"rows": found["rows"]}) == ""


def test_an_unknown_study_and_a_missing_folder_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert results.main(["train", "priors"]) == 1
    assert capsys.readouterr().err == "error: train needs --out DIR, a folder for the runs\n"
    assert results.main(["write", "none", "--out", "x"]) == 1
    assert capsys.readouterr().err.startswith("error: there is no study 'none'; choose from objectives,")

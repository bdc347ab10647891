"""What a command line of the benchmark means: columns, names, and what is refused before anything starts."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from omegaconf import OmegaConf

from vaezoo.benchmark import grid
from vaezoo.benchmark.fairness import unequal_steps
from vaezoo.benchmark.grid import Cell
from vaezoo.config import hydra_config
from vaezoo.config.errors import ConfigError
from vaezoo.config.reading import flat
from vaezoo.config.validation import parameters
from vaezoo.models.loading import make_on_meta_device

PRESETS = {
    "objectives": 4 * 3,
    "architectures": 3 * 3,
    "beta_sweep": 8 * 3,
    "smoke": 4,
    "adversaries": 3 * 3,
    "zoo": 26 * 3,
}


def cells(*words: str) -> list[Cell]:
    return grid.read_cells(grid.read([*words, "out=OUT"]))


def names(*words: str) -> list[str]:
    return [cell.name for cell in cells(*words)]


def test_columns_are_the_product_of_models_and_values_and_each_has_all_seeds() -> None:
    assert names("models=[beta_vae,vae]", "model.latent_dim=[2,4]", "seeds=[0,7]") == [
        "beta_vae-latent_dim_2-seed_0",
        "beta_vae-latent_dim_2-seed_7",
        "beta_vae-latent_dim_4-seed_0",
        "beta_vae-latent_dim_4-seed_7",
        "vae-latent_dim_2-seed_0",
        "vae-latent_dim_2-seed_7",
        "vae-latent_dim_4-seed_0",
        "vae-latent_dim_4-seed_7",
    ]


def test_a_setting_that_a_model_lacks_makes_no_columns_of_it() -> None:
    found = names("models=[ae,beta_vae]", "model.beta=[1,4,16]", "seeds=[0]")
    assert found == ["ae-seed_0", *(f"beta_vae-beta_{beta}-seed_0" for beta in (1, 4, 16))]
    (ae, beta_vae) = cells("models=[ae,beta_vae]", "model.beta=3", "seeds=[0]")
    assert "beta" not in ae.config["model"]
    assert beta_vae.config["model"]["beta"] == 3


@pytest.mark.parametrize("word", ["model.beta=[1,4,16]", "model.beta=1,4,16", "model.beta=choice(1,4,16)"])
def test_several_values_can_be_written_as_a_list_or_as_hydra_does(word: str) -> None:
    assert [cell.config["model"]["beta"] for cell in cells("models=beta_vae", word, "seeds=[0]")] == [1, 4, 16]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("model.widths=[400]", [[400]]),
        ("model.widths=[512,256]", [[512, 256]]),
        ("model.widths=[[400],[512,256]]", [[400], [512, 256]]),
        ("model.widths=[[400],null]", [[400], None]),
        ("model.widths=[[400]]", [[400]]),
    ],
)
def test_a_setting_that_takes_lists_has_several_values_in_a_list_of_lists(word: str, values: list[Any]) -> None:
    assert [cell.config["model"]["widths"] for cell in cells("models=[vae]", word, "seeds=[0]")] == values


def test_a_setting_may_be_for_some_runs_only() -> None:
    made = cells(
        "models=[vqvae,ae]", "model.quantizer=[vq,lfq]", "seeds=[0]",
        "model.quantizer_options={size: 64}", "model.quantizer_options={bits: 9} if model.quantizer=lfq",
        "model.latent_dim=3 if model=ae",
    )  # fmt: skip
    found = {
        one.name: (one.config["model"].get("quantizer_options"), one.config["model"]["latent_dim"]) for one in made
    }
    assert found == {
        "vqvae-quantizer_vq-seed_0": ({"size": 64}, None),
        "vqvae-quantizer_lfq-seed_0": ({"bits": 9}, None),
        "ae-seed_0": (None, 3),
    }
    assert "model.quantizer_options={bits: 9}" in made[1].overrides
    assert not any("if" in word.split() for one in made for word in one.overrides)


def test_what_is_set_for_all_runs_later_replaces_what_was_for_some() -> None:
    some = "model.latent_dim=3 if model=ae"
    assert cells("models=[ae]", some, "model.latent_dim=5", "seeds=[0]")[0].config["model"]["latent_dim"] == 5
    assert cells("models=[ae]", "model.latent_dim=5", some, "seeds=[0]")[0].config["model"]["latent_dim"] == 3
    assert cells("models=[ae]", "data.root='/a if b=c'", "seeds=[0]")[0].config["data"]["root"] == "/a if b=c"


def test_all_settings_that_take_lists_are_known() -> None:
    def takes_list(annotation: Any) -> bool:
        return get_origin(annotation) in (list, tuple, Sequence) or any(
            takes_list(part) for part in get_args(annotation)
        )

    annotated, given = set(), set()
    names_of_models = ",".join(hydra_config.options("model"))
    for cell in cells(f"models=[{names_of_models}]", "seeds=[0]"):
        given |= {f"model.{key}" for key, value in flat(cell.config["model"], whole=True) if isinstance(value, list)}
        for group in ("model", "data", "trainer"):
            node = cell.config[group]
            known = parameters(hydra_config._locate(node["_target_"], group))
            annotated |= {f"{group}.{name}" for name in node if name[0] != "_" and takes_list(known[name])}
    assert annotated - {"model.categories"} == {key for key in grid.LIST_VALUED if key.count(".") == 1}
    assert given - {"model.categories"} <= grid.LIST_VALUED


def test_groups_and_dictionaries_and_added_keys_pass_through() -> None:
    made = cells(
        "models=[vae]", "data=[mnist,digits]", "seeds=[0]", "model.likelihood=gaussian",
        "model.likelihood_options={sigma: 0.5}", "+model.optimizer.weight_decay=[0,0.1]",
    )  # fmt: skip
    assert [(cell.config["data"]["source"], cell.config["model"]["optimizer"]["weight_decay"]) for cell in made] == [
        ("torchvision", 0),
        ("torchvision", 0.1),
        ("digits", 0),
        ("digits", 0.1),
    ]
    assert all(cell.config["model"]["likelihood_options"] == {"sigma": 0.5} for cell in made)
    assert made[1].name == "vae-data_mnist-weight_decay_0.1-seed_0"


def test_names_are_unique_and_mean_nothing_to_a_shell_or_to_hydra() -> None:
    found = names(
        "models=[vae]", "model.widths=[[400],[512,256]]", "model.optimizer.name=[Adam,SGD]", "data.name=[a b,'c/d']"
    )
    assert len(set(found)) == len(found) == 2 * 2 * 2 * 3
    assert "vae-widths_512_256-model.optimizer.name_SGD-data.name_c_d-seed_2" in found
    with pytest.raises(ConfigError, match="two columns of the benchmark would both be called vae-beta_1-seed_0"):
        grid.read_cells(grid.read(["models=[vae]", "+model.beta=[1,1]", "seeds=[0]", "out=OUT"]))


def test_a_cells_words_make_its_config_with_train() -> None:
    cell = cells("models=[beta_vae]", "model.beta=[1,2]", "seeds=[5]", "callbacks=none")[1]
    assert cell.overrides == ("model=beta_vae", "model.beta=2", "callbacks=none", "evaluation=none", "seed=5")
    assert (cell.config["seed"], cell.config["data"]["seed"], cell.config["run_dir"]) == (5, 5, f"OUT/{cell.name}")


@pytest.mark.parametrize(("preset", "runs"), PRESETS.items())
def test_presets_name_their_runs_and_the_command_line_goes_before_them(preset: str, runs: int) -> None:
    made = cells(f"experiment={preset}")
    assert len(made) == runs
    assert all("benchmark" not in cell.config for cell in made)
    assert "~benchmark" in made[0].overrides
    (one,) = cells(f"experiment={preset}", "models=[beta_vae]", "seeds=[4]", "model.network=mlp", "model.beta=9")
    assert (one.config["model"]["network"], one.config["model"]["beta"], one.config["seed"]) == ("mlp", 9, 4)


def test_objectives_differ_in_their_objective_alone() -> None:
    for cell in cells("experiment=objectives", "seeds=[0]"):
        shared = cells("experiment=objectives", "models=[vae]", "seeds=[0]")[0].config
        both = (cell.config["model"].keys() & shared["model"].keys()) - {"_target_", "prior"}
        assert {"latent_dim", "network", "widths", "likelihood", "optimizer"} <= both
        assert {key: cell.config["model"][key] for key in both} == {key: shared["model"][key] for key in both}
        assert cell.config["trainer"] == shared["trainer"]


@pytest.mark.parametrize(("experiment", "rate"), [("quantizers", 49 * 8), ("tokenizers", 16 * 5)])
def test_discrete_codes_are_compared_at_the_same_number_of_bits(experiment: str, rate: int) -> None:
    found = {}
    for cell in cells(f"experiment={experiment}", "seeds=[0]"):
        made: Any = make_on_meta_device(OmegaConf.create(cell.config), (1, 28, 28))
        if sizes := made.codebook_sizes:
            found[cell.name] = math.prod(made.index_shape[1:]) * sum(math.log2(size) for size in sizes)
        else:
            assert made.code_shape == (4, 4, 4)
    assert list(found.values()) == [rate] * (7 if experiment == "quantizers" else 2)


def test_an_experiment_of_one_training_can_be_made_a_benchmark() -> None:
    made = cells("experiment=plane", "models=[ae,vae]", "seeds=[0]")
    assert [cell.config["model"]["_target_"] for cell in made] == ["vaezoo.models.AE", "vaezoo.models.VAE"]


def test_words_for_evaluate_are_kept_apart() -> None:
    request = grid.read(["models=[vae]", "evaluate.k=100", "out=OUT", "jobs=3", "evaluate.images=50"])
    assert request.evaluate == ("k=100", "images=50")
    assert request.settings == ()
    assert (request.out, request.jobs, request.seeds) == (Path("OUT"), 3, (0, 1, 2))


def test_words_for_compare_are_kept_apart_and_checked_before_training() -> None:
    assert grid.read(["models=[vae]", "compare.pdf=false", "out=OUT"]).compare == ("pdf=false",)
    assert grid.read(["models=[vae]", "explore=true", "out=OUT"]).compare == ("explore=true",)
    for word, said in (
        ("compare.pfd=false", "did you mean 'pdf'"),
        ("compare.pdf=never", "compare.pdf must be bool"),
        ("explore=3", "explore must be bool"),
    ):
        with pytest.raises(ConfigError, match=said):
            grid.read(["models=[vae]", word, "out=OUT"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["out=O"], "a benchmark needs its models; write models="),
        (["models=[vae]"], "write out=DIR"),
        (["models=[vae]", "out="], "write out=DIR"),
        (["models=[vae,vae]", "out=O"], "models has a value twice: vae, vae"),
        (["models=[]", "out=O"], "models has no value"),
        (["models=[vaee]", "out=O"], "there is no model=vaee; set model= to one of adversarial_ae, ae"),
        (["models=[vae]", "out=O", "seeds=3"], "seeds must be a list, as in seeds=[0,1,2], got 3"),
        (["models=[vae]", "out=O", "seeds=[a]"], "seeds must be a whole number of at least 0, got a"),
        (["models=[vae]", "out=O", "seeds=[-1]"], "seeds must be a whole number of at least 0, got -1"),
        (["models=[vae]", "out=O", "jobs=0"], "jobs must be a whole number of at least 1, got 0"),
        (["models=[vae]", "out=O", "jobs=[1,2]"], "jobs must be a whole number of at least 1, got 1,2"),
        (["models=[vae]", "out=O", "-m"], "a benchmark has no option -m"),
        (["models=[vae]", "out=O", "model=vae"], "model= cannot be set here: a benchmark trains several"),
        (["models=[vae]", "out=O", "seed=1"], "seed= cannot be set here"),
        (["models=[vae]", "out=O", "resume=RUN"], "resume= cannot be set here"),
        (["models=[vae]", "out=O", "run_dir=RUN"], "run_dir= cannot be set here"),
        (["models=[vae]", "out=O", "hydra.verbose=true"], "hydra.verbose= cannot be set here"),
        (["models=[ae,vae]", "out=O", "model.beta=[1,4]"], "model.beta is not a setting"),
        (["models=[beta_vae]", "out=O", "model.betta=[1,4]"], "model.betta is not a setting; did you mean 'beta'?"),
        (["models=[vae]", "out=O", "modell.x=[1,4]"], "modell is not a setting; did you mean 'model'?"),
        (["models=[vae]", "out=O", "data=[mnits]"], "there is no data=mnits; set data= to one of "),
        (["models=[vae]", "out=O", "experiment=none"], "there is no experiment=none"),
        (["models=[vae]", "out=O", "model.beta=[1"], "cannot read the setting 'model.beta=[1'"),
        (["models=[vae]", "out=O", "word"], "cannot read the setting 'word'"),
        (["models=[vae]", "out=O", "evaluation=full"], "evaluation= cannot be set here"),
        (["models=[vae]", "out=O", "evaluate.k=[1,2]"], "evaluate.k must be one value"),
        (["models=[vae]", "out=O", "trainer.max_time=00:01:00:00"], "trainer.max_time would end runs after unequal"),
        (["models=[vae]", "out=O", "trainer.max_epochs=0"], "trainer.max_epochs=0 would train nothing"),
        (["models=[vae]", "out=O", "trainer.max_epochs=[1,0]"], "trainer.max_epochs=0 would train nothing"),
        (["models=[vae]", "out=O", "trainer.max_steps=0"], "trainer.max_steps=0 would train nothing"),
        (["models=[vae]", "out=O", "trainer.limit_train_batches=0.0"], "limit_train_batches=0 would train nothing"),
        (["models=[vae]", "out=O", "trainer.max_epochs=-1"], "trainer.max_epochs=-1 would train without end; set"),
        (
            ["models=[vae]", "out=O", "model.widths=[1] if model=ae"],
            "model.widths=[1] applies to no run, because model is",
        ),
        (["models=[vae]", "out=O", "data.limit=9 if data.fit=pad"], "because data.fit is not set for this benchmark"),
        (["models=[vae]", "out=O", "seeds=[1] if model=vae"], "seeds cannot depend on model=vae"),
        (["models=[vae]", "out=O", "data.limit=[8,9] if model=vae"], "data.limit cannot depend on model=vae"),
        (["models=[vae]", "out=O", "evaluate.k=9 if model=vae"], "evaluate.k cannot depend on model=vae"),
        (["models=[vae]", "out=O", "data.batch_size=[64,128]"], "data.batch_size would make the runs take unequal"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011  Hydra has many kinds
        grid.read_cells(grid.read(words))
    assert sentence in (hydra_config.explain(caught.value) or "")


def test_unequal_batches_are_fine_for_equally_many_steps_and_lengths_may_be_chosen() -> None:
    steps = ["trainer.max_steps=100", "trainer.max_epochs=-1"]
    assert len(names("models=[vae]", "data.batch_size=[64,128]", "seeds=[0]", *steps)) == 2
    assert len(names("models=[vae]", "trainer.max_epochs=[1,2]", "seeds=[0]")) == 2
    assert len(names("models=[vae]", "data=[digits,mnist]", "seeds=[0]")) == 2


def test_unequal_steps_that_were_taken_are_told() -> None:
    configs = {cell.name: cell.config for cell in cells("models=[ae,vae]", "trainer.max_epochs=[1,2]", "seeds=[0]")}
    steps = dict(zip(configs, (10, 20, 10, 20), strict=True))
    assert unequal_steps(steps, configs) is None
    steps["vae-max_epochs_2-seed_0"] = 19
    sentence = unequal_steps(steps, configs) or ""
    assert "vae-max_epochs_2-seed_0 19, ae-max_epochs_2-seed_0 20" in sentence

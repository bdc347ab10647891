"""A run folder is read back by whoever has it, and refuses to be what it is not."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import vaezoo
from vaezoo import VAE, Run
from vaezoo.config.errors import RunError
from vaezoo.runs import checkpoints

Train = Callable[..., Run]
Program = Callable[..., tuple[int, str]]


def test_load_gives_the_model_back_with_nothing_else_to_tell(train: Train) -> None:
    run = train("run", "model=beta_vae", "model.beta=3", "model.latent_dim=4", "model.likelihood=gaussian")
    model = vaezoo.load(run.path)
    assert isinstance(model, vaezoo.BetaVAE)
    assert (model.beta, model.latent_dim, model.training) == (3, 4, False)
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(model.reconstruct(x), vaezoo.load(run.checkpoint("best")).reconstruct(x))


def test_last_and_best_weights_can_be_asked_for(train: Train) -> None:
    run = train("run", "trainer.max_epochs=6", "model.optimizer.lr=0.1")
    names = ("best", "last")
    found = {name: checkpoints.read(run.checkpoint(name))["global_step"] for name in names}
    elbos = {row["step"]: row["val/elbo"] for row in run.metrics if "val/elbo" in row}
    assert found["best"] == max(elbos, key=lambda step: elbos[step])
    assert found["last"] == max(elbos)


def test_metrics_are_the_rows_of_the_csv(train: Train) -> None:
    rows = train("run").metrics
    assert [row["step"] for row in rows if "val/elbo" in row] == [4, 8]
    assert all(isinstance(value, float) for row in rows for value in row.values())


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder: it has no config"):
        Run(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 0")
    run = Run(tmp_path)
    assert run.summary == {"status": "unfinished"}
    assert run.metrics == []
    with pytest.raises(RunError, match="has no best or last checkpoint"):
        run.checkpoint()
    (tmp_path / "config.yaml").write_text("a: [1")
    with pytest.raises(RunError, match="cannot be read"):
        _ = run.config


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",))

    path = tmp_path / "hostile.ckpt"
    torch.save({"model_class": "vaezoo.models.vae.VAE", "hyper_parameters": Hostile()}, path)
    with pytest.raises(RunError, match="is damaged or not a checkpoint"):
        vaezoo.load(path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(RunError, match="is damaged or not a checkpoint"):
        vaezoo.load(path)
    assert not (tmp_path / "owned").exists()


def test_a_class_from_elsewhere_is_refused_until_its_package_is_named(tmp_path: Path) -> None:
    path = tmp_path / "foreign.ckpt"
    content = {"model_class": "subprocess.Popen", "hyper_parameters": {"args": ["false"]}, "state_dict": {}}
    torch.save(content, path)
    with pytest.raises(RunError, match=r"asks for the class subprocess\.Popen; to allow it, pass packages"):
        vaezoo.load(path)


@pytest.mark.parametrize(
    "name", ["vaezoo.commands.assembly.instantiate", "vaezoo.training.module.Loop", "vaezoo.models.vae.Nothing"]
)
def test_nothing_but_a_model_is_made_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.ckpt"
    arguments = {"config": {"_target_": "os.mkdir", "path": str(tmp_path / "owned")}}
    torch.save({"model_class": name, "hyper_parameters": arguments, "state_dict": {}}, path)
    with pytest.raises(RunError, match="does not fit"):
        vaezoo.load(path)
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_of_another_program_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(RunError, match="is not a checkpoint of this version of vaezoo: it has no model_class"):
        vaezoo.load(tmp_path / "other.ckpt")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def with_a_flipped_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def foreign(path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [truncated, with_a_flipped_bit, foreign, empty, Path.unlink])
def test_a_run_goes_on_from_the_checkpoint_before_where_the_last_is_bad(
    spoil: Callable[[Path], None], train: Train, program: Program
) -> None:
    settings = ["callbacks.last.min_seconds=0", "trainer.max_epochs=3", "trainer.log_every_n_steps=1"]
    whole, run = train("whole", *settings), train("run", *settings)
    spoil(run.path / "checkpoints" / "last.ckpt")
    path, content = checkpoints.last_good(run.path)
    assert (path.name, content["global_step"]) == ("previous.ckpt", 8)
    code, printed = program("train", f"resume={run.path}")
    assert code == 0, printed
    assert printed.count("resuming from previous.ckpt, step 8") == 1
    one, two = whole.model("last").state_dict(), run.model("last").state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (run.path / "metrics.csv").read_text() == (whole.path / "metrics.csv").read_text()
    assert checkpoints.last_good(run.path)[0].name == "last.ckpt"
    assert torch.load(run.path / "checkpoints" / "previous.ckpt", weights_only=True)["global_step"] == 8


def test_where_both_checkpoints_are_bad_one_sentence_says_so(train: Train, program: Program) -> None:
    run = train("run", "callbacks.last.min_seconds=0")
    truncated(run.path / "checkpoints" / "last.ckpt")
    foreign(run.path / "checkpoints" / "previous.ckpt")
    metrics = (run.path / "metrics.csv").read_text()
    code, printed = program("train", f"resume={run.path}")
    assert code == 1
    assert "last.ckpt is damaged" in printed
    assert "previous.ckpt is not a checkpoint of this version of vaezoo" in printed
    assert "train the run again" in printed
    assert "Traceback" not in printed
    assert (run.path / "metrics.csv").read_text() == metrics


def test_metrics_whose_last_row_was_cut_short_can_be_read(train: Train) -> None:
    run = train("run")
    before = run.metrics
    with (run.path / "metrics.csv").open("a") as file:
        file.write("7,7")
    assert run.metrics == before


def test_a_run_that_goes_on_is_unfinished_whatever_it_came_to_before(
    train: Train, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = train("run"), []
    assert run.summary["status"] == "finished"
    with monkeypatch.context() as patch:
        patch.setattr(VAE, "on_train_epoch_end", lambda self: seen.append(run.summary["status"]))
        assert program("train", f"resume={run.path}", "trainer.max_epochs=3")[0] == 0
    assert seen == ["unfinished"]
    assert run.summary["status"] == "finished"


def test_the_data_of_a_run_is_iterated_as_pixels_and_labels(train: Callable[..., Run]) -> None:
    data = train("run", "model=ae", "trainer.max_epochs=1").data()
    batches = list(data.test_dataloader())
    assert all(x.dtype == torch.float32 and 0 <= x.min() <= x.max() <= 1 for x, _ in batches)
    assert torch.equal(torch.cat([x for x, _ in batches]), data.examples(300, "test")[0])

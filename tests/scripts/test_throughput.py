"""The yardstick measures whom it says, tells ratios from the same turn, and says what it could not measure."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

import throughput
from tests.conftest import ROOT
from vaezoo.config import hydra_config
from yardstick import loads, manual, measurement, processes, results
from yardstick.callbacks import Stopwatch

QUICK = ["--quick", "--repeats", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """A smoke run of the loop, of vaezoo and of one that is not installed: code of exit and folder."""
    out = tmp_path_factory.mktemp("smoke") / "throughput"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loads, "find_spec", lambda name: None)
        words = ["--loads", "digits-mlp", "--contestants", "pythae", "vaezoo", "bare", "--out", str(out)]
        return throughput.main([*QUICK, *words]), out


def record(smoke: tuple[int, Path]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((smoke[1] / "throughput.json").read_text())
    return found


@pytest.mark.nightly
def test_a_smoke_run_measures_the_loop_and_vaezoo(smoke: tuple[int, Path]) -> None:
    code, _ = smoke
    assert code == 0
    found = {one["contestant"]: one for one in record(smoke)["measurements"]}
    assert list(found) == ["pythae", "bare", "vaezoo"]
    for name in ("bare", "vaezoo"):
        assert found[name]["images"] == loads.QUICK_IMAGES
        assert found[name]["threads"] == 1
        assert found[name]["images_per_second"] == pytest.approx(found[name]["images"] / found[name]["seconds"])
        assert 0 < found[name]["above_imports_bytes"] < found[name]["process_bytes"]
    whole = found["vaezoo"]["seconds"] + found["vaezoo"]["validation_seconds"]
    assert found["vaezoo"]["images_per_second_with_validation"] == pytest.approx(loads.QUICK_IMAGES / whole)
    assert found["vaezoo"]["validation_seconds"] > 0
    assert "validation_seconds" not in found["bare"]


@pytest.mark.nightly
def test_the_record_says_what_was_measured_on(smoke: tuple[int, Path]) -> None:
    about = record(smoke)["machine"]
    assert about["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert about["threads"] == 1
    assert about["cpu"]
    assert about["gpu"] is None


@pytest.mark.nightly
def test_a_contestant_that_is_not_installed_is_a_row_that_says_so(smoke: tuple[int, Path]) -> None:
    entry = next(one for one in record(smoke)["summary"] if one["contestant"] == "pythae")
    assert entry["failed"] == 'pythae is not installed; run: pip install -e ".[bench]"'
    assert f"| pythae | {entry['failed']} |" in (smoke[1] / "throughput.md").read_text()


@pytest.mark.nightly
def test_a_smoke_run_decides_no_target(smoke: tuple[int, Path]) -> None:
    outcomes = [one["outcome"] for one in record(smoke)["targets"]]
    assert outcomes == ["not measured"] * len(results.targets("cpu"))
    text = (smoke[1] / "throughput.md").read_text()
    assert "A smoke run of a few steps, whose numbers are meaningless." in text
    assert "## digits-mlp: 16x16 digits" in text


@pytest.mark.nightly
def test_the_chart_is_written_as_a_picture_and_as_vectors(smoke: tuple[int, Path]) -> None:
    with Image.open(smoke[1] / "throughput.png") as picture:
        assert picture.width > 800
    assert "<svg" in (smoke[1] / "throughput.svg").read_text()


# numbers from measurements -------------------------------------------------------------------------------------------


def measured(load: str, contestant: str, *speeds: float, quantity: str = "images_per_second") -> list[dict[str, Any]]:
    return [
        {"load": load, "contestant": contestant, "repeat": repeat, quantity: speed}
        for repeat, speed in enumerate(speeds)
    ]


def test_a_ratio_is_of_the_same_turn() -> None:
    both = [*measured("mnist-mlp", "bare", 100, 50, 200), *measured("mnist-mlp", "vaezoo", 90, 50, 220)]
    found = results.compare(both, "mnist-mlp", "vaezoo", "bare", "images_per_second")
    assert astuple(found) == pytest.approx((1.0, 0.9, 1.1, 3))  # the medians alone, 90 and 100, would say 0.9


def test_turns_without_a_partner_are_left_out() -> None:
    both = [*measured("mnist-mlp", "bare", 100), *measured("mnist-mlp", "vaezoo", 90, 500)]
    found = results.compare(both, "mnist-mlp", "vaezoo", "bare", "images_per_second")
    assert astuple(found) == pytest.approx((0.9, 0.9, 0.9, 1))
    assert results.compare(both, "mnist-mlp", "pythae", "bare", "images_per_second") is None


@pytest.mark.parametrize(("speed", "outcome"), [(95.0, "reached"), (94.0, "missed")])
def test_a_speed_target_asks_for_at_least(speed: float, outcome: str) -> None:
    found = [*measured("mnist-mlp", "bare", 100), *measured("mnist-mlp", "vaezoo", speed)]
    verdict = results.judge(found, "cpu")[0]
    assert verdict.measured.median == pytest.approx(speed / 100)
    assert (verdict.what, verdict.bound, verdict.outcome) == ("images/s, mnist-mlp, vaezoo / bare", ">= 0.95", outcome)


@pytest.mark.parametrize(("seconds", "outcome"), [(6.0, "reached"), (6.1, "missed")])
def test_the_first_steps_target_is_a_difference_of_at_most_two_seconds(seconds: float, outcome: str) -> None:
    found = measured("start", "imported", 4.0, quantity="seconds")
    found += measured("start", "first step", seconds, quantity="seconds")
    assert results.judge(found, "cpu")[-1].outcome == outcome


@pytest.mark.parametrize(("speed", "outcome"), [(87.0, "reached"), (86.9, "missed")])
def test_a_quantiser_may_cost_fifteen_percent_of_a_step(speed: float, outcome: str) -> None:
    found = [*measured("mnist-vqvae", "vaezoo-ae", 100.05), *measured("mnist-vqvae", "vaezoo", speed)]
    verdict = next(one for one in results.judge(found, "cpu") if "quantiser" in one.what)
    assert (verdict.bound, verdict.outcome) == ("<= 1.15", outcome)


@pytest.mark.parametrize(("speed", "outcome"), [(100.0, "reached"), (99.0, "missed")])
def test_one_backward_pass_is_at_least_as_fast_as_two_optimisers(speed: float, outcome: str) -> None:
    found = [*measured("cifar-vqgan", "manual", 100), *measured("cifar-vqgan", "vaezoo", speed)]
    verdict = next(one for one in results.judge(found, "cpu") if "vqgan" in one.what)
    assert (verdict.what, verdict.bound, verdict.outcome) == ("images/s, cifar-vqgan, vaezoo / manual", ">= 1", outcome)


def test_each_load_is_given_to_those_that_can_train_it() -> None:
    options = throughput.parse(["--contestants", "bare", "manual"])
    assert options.loads == ["mnist-mlp", "digits-mlp", "sprites-conv", "cifar-resnet", "cifar-vqgan", "start"]
    for load, names in {"mnist-vqvae": ["vaezoo", "vaezoo-ae"], "cifar-vqgan": ["vaezoo", "manual"]}.items():
        assert sorted(name for name in loads.CONTESTANTS if loads.can_train(loads.LOADS[load], name)) == sorted(names)
        assert not loads.can_train(loads.LOADS[load], "model=vae")


def test_the_quantised_model_and_its_rival_have_the_same_network(tmp_path: Path) -> None:
    place: dict[str, Any] = {"device": "cpu", "threads": 1, "folder": tmp_path, "root": tmp_path}
    made = [
        measurement.make_model(loads.make_job(loads.LOADS["mnist-vqvae"], name, **place))
        for name in ("vaezoo", "vaezoo-ae")
    ]
    sizes = [{name: value.shape for name, value in one.named_parameters()} for one in made]
    assert sizes[0] == sizes[1]
    assert made[0].code_shape == made[1].code_shape == (16, 7, 7)


def test_manual_optimisation_takes_the_same_first_step(tmp_path: Path) -> None:
    place: dict[str, Any] = {"device": "cpu", "threads": 1, "folder": tmp_path, "root": tmp_path}
    job = loads.make_job(loads.LOADS["cifar-vqgan"], "manual", **place, quick=True)
    torch.manual_seed(0)
    model = measurement.make_model(job)
    torch.manual_seed(0)
    other, x = manual.ManualVQGAN(job), torch.rand(4, 3, 32, 32)
    terms = model.loss_terms(x)
    pixels, recon, commitment = other.reconstruct(x)
    torch.testing.assert_close(recon, terms.recon.mean())
    torch.testing.assert_close(commitment, terms.penalties["commitment"].mean())
    torch.testing.assert_close(-other.critic(pixels).mean(), terms.penalties["generator"].mean())
    objective = model.objective(terms, model.weights()).mean()
    torch.testing.assert_close(
        recon + other.commitment * commitment - other.weight * other.critic(pixels).mean(), objective
    )


def test_a_gpu_has_targets_of_its_own() -> None:
    bounds = {target.what: target.bounds["cuda"] for target in results.targets("cuda")}
    assert bounds["images/s, mnist-mlp, vaezoo / bare-graph"] == 0.8
    assert not [target for target in results.targets("cpu") if target.under == "bare-graph"]
    memory = next(target for target in results.targets("cuda") if "memory" in target.what)
    assert memory.quantity == "cuda_allocated_bytes"


def test_a_table_shows_the_median_and_its_spread() -> None:
    found = [*measured("mnist-mlp", "bare", 100, 120, 80), *measured("mnist-mlp", "vaezoo", 50, 60, 40)]
    rows = results.load_table(found, "mnist-mlp", "cpu").rows
    assert rows[0][:4] == ("bare", "100 (80 to 120)", "", "1.00 (1.00 to 1.00)")
    assert rows[1][:4] == ("vaezoo", "50 (40 to 60)", "", "0.50 (0.50 to 0.50)")


def test_a_command_that_notes_its_end_is_not_charged_for_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.time, "time", lambda: 100.0)
    noted = ["-c", f"open('{processes.END}', 'w').write('103.5')"]
    monkeypatch.setitem(processes.COMMANDS, "imported", ("", noted))
    monkeypatch.setitem(processes.COMMANDS, "list", ("", ["-c", "pass"]))
    assert processes.time_command("imported", 1) == {"seconds": 3.5}
    assert processes.time_command("list", 1) == {
        "seconds": 0.0
    }  # until the process has ended, by a clock that stands still


def test_a_command_that_ends_before_its_mark_is_not_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(processes.COMMANDS, "imported", ("python", ["-c", f"pass # {processes.END}"]))
    with pytest.raises(processes.ChildError, match=r"^python ended with code 0 before it was measured"):
        processes.time_command("imported", 1)


def test_what_is_set_against_each_other_is_measured_to_the_same_kind_of_end() -> None:
    for target in results.targets("cpu"):
        if target.load == results.START:
            notes = [processes.END in " ".join(processes.COMMANDS[name][1]) for name in (target.over, target.under)]
            assert notes[0] == notes[1], target.what


class Trainer:
    """As much of one as a stopwatch looks at."""

    current_epoch = 0


def test_the_stopwatch_leaves_the_first_epoch_and_validation_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    times = iter([10.0, 13.0, 14.0, 15.5])
    processor = iter([1.0, 3.0, 3.5, 4.25])
    monkeypatch.setattr("yardstick.measurement.now", lambda: next(times))
    monkeypatch.setattr("yardstick.measurement.processor_now", lambda: next(processor))
    watch, trainer = Stopwatch(str(tmp_path / "laps.json")), Trainer()
    for epoch in range(2):
        trainer.current_epoch = epoch
        watch.on_train_epoch_start(trainer)  # type: ignore[arg-type]
        watch.on_validation_start(trainer)  # type: ignore[arg-type]
        watch.on_validation_end(trainer)  # type: ignore[arg-type]
    watch.on_train_end(trainer)  # type: ignore[arg-type]
    laps = json.loads((tmp_path / "laps.json").read_text())
    assert laps == {"seconds": 4.5, "validation_seconds": 1.0, "cpu_seconds": 2.75}


def test_models_are_compared_by_processor_time() -> None:
    speeds = {("vae", results.SPEED): 100.0, ("iwae", results.SPEED): 90.0}
    speeds |= {("vae", results.CPU_SPEED): 120.0, ("iwae", results.CPU_SPEED): 40.0}
    found = [
        {"load": "mnist-mlp", "contestant": f"model={name}", "repeat": 0, quantity: speed}
        for (name, quantity), speed in speeds.items()
    ]
    (verdict,) = results.judge(found, "cpu")
    assert verdict.measured is not None
    assert (verdict.measured.median, verdict.outcome) == (3.0, "reached")
    (_, iwae) = results.summaries(found)
    assert iwae["ratio_to_model=vae"].median == pytest.approx(1 / 3)


# what cannot be measured ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--loads", "mnist"], "there is no load 'mnist'; choose from mnist-mlp, digits-mlp"),
        (
            ["--contestants", "keras"],
            "there is no contestant 'keras'; choose from bare, bare-flush, bare-graph, vaezoo",
        ),
        (["--contestants", "bare-graph"], "bare-graph cannot run on --device cpu; choose other contestants"),
        (
            ["--loads", "mnist-vqvae", "--contestants", "bare"],
            "bare cannot train mnist-vqvae; choose from vaezoo, vaezoo-ae",
        ),
        (["--loads", "digits-mlp", "--contestants", "manual"], "manual cannot train digits-mlp; choose other loads"),
        (["--loads", "cifar-vqgan", "--models", "vae"], "model=vae cannot train cifar-vqgan; choose other loads"),
        (["--repeats", "0"], "--repeats must be at least 1, got 0"),
        (["--repeats", "few"], "argument --repeats: invalid int value: 'few'"),
        (["--threads", "-1"], "--threads must be at least 1, got -1"),
        (["--busy", "-1"], "--busy must be a number of processes, got -1"),
        (["--device", "cuda"], "--device cuda needs a GPU, and torch finds none on this machine; measure with"),
        (["--out", "/dev/null/out"], "cannot write to --out /dev/null/out: Not a directory; choose another"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert throughput.main(words) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {sentence}")
    assert len(printed.err.splitlines()) == 1
    assert not printed.out


def test_a_load_that_does_not_fit_says_how_much_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measurement, "available_bytes", lambda device: 2**27)
    assert throughput.main(["--loads", "mnist-mlp", "--out", str(tmp_path / "out")]) == 1
    # 60,000 images of 784 bytes, those as float32 too, and 652,824 weights, their gradients and two moments in float32
    needed = (60_000 * 784 * 5 + 652_824 * 16) / 2**30
    assert capsys.readouterr().err == (
        f"error: mnist-mlp needs {needed:.2f} GiB of memory for its images and its model, and 0.12 GiB are available;"
        " free some, or leave it out of --loads\n"
    )
    assert not (tmp_path / "out").exists()


def test_mnist_that_is_not_there_is_said_and_the_code_of_exit_tells_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--loads", "mnist-mlp", "--contestants", "bare", "--data-root", str(tmp_path), "--out", str(tmp_path)]
    assert throughput.main([*QUICK, *words]) == 1
    sentence = f"MNIST is not in {tmp_path}; run: python scripts/prepare_data.py mnist --root {tmp_path}"
    assert f"error: {sentence}\n" in capsys.readouterr().err
    assert f"| bare | {sentence} |" in (tmp_path / "throughput.md").read_text()


def test_a_process_that_fails_is_quoted_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(processes.ChildError, match=r"^results ended with code 0: it printed nothing$"):
        processes.run("results", {}, 1)
    with pytest.raises(processes.ChildError, match=r"^nowhere ended with code 1: .*No module named yardstick.nowhere"):
        processes.run("nowhere", {}, 1)


def test_every_load_is_a_training_of_vaezoos_with_the_same_networks(tmp_path: Path) -> None:
    folder = tmp_path / "it's here"
    networks = {
        "mnist-mlp": ("mlp", 20, [400], 128, (1, 28, 28)),
        "digits-mlp": ("mlp", 10, None, 32, (1, 16, 16)),
        "sprites-conv": ("conv", 10, None, 64, (1, 64, 64)),
        "cifar-resnet": ("resnet", 10, None, 128, (3, 32, 32)),
        "mnist-vqvae": ("resnet", None, None, 128, (1, 28, 28)),
        "cifar-vqgan": ("resnet", None, None, 64, (3, 32, 32)),
    }
    for name, load in loads.LOADS.items():
        job = loads.make_job(load, "vaezoo", device="cpu", threads=None, folder=folder, root=folder)
        with initialize_config_dir(str(hydra_config.CONFIGS), version_base="1.3"):
            cfg = compose("train", overrides=[*job["settings"], "run_dir=somewhere"])
        found = tuple(job[key] for key in ("network", "latent_dim", "widths", "batch_size", "image_shape"))
        assert found == networks[name]
        assert (cfg.model.network, cfg.model.latent_dim, cfg.model.widths, cfg.data.batch_size) == found[:4]
        assert (cfg.data.channels, cfg.data.image_size, cfg.data.image_size) == found[4]
        assert cfg.data.limit == load.images["cpu"]
        if name != "digits-mlp":
            assert cfg.data.root.startswith(str(folder))


def test_busy_processes_compute_while_contestants_are_measured_and_end_with_it() -> None:
    with processes.spinning(2):
        wait_until(lambda: len(children_of(os.getpid())) == 2)  # a process that has just been started has another name
        spinning = children_of(os.getpid())
        before = [seconds(process) for process in spinning]
        wait_until(lambda: all(seconds(each) > was + 0.05 for each, was in zip(spinning, before, strict=True)))
    assert not children_of(os.getpid()) & spinning


def test_busy_processes_end_with_the_program_that_is_killed() -> None:
    killed = "with spinning(1): os.kill(os.getpid(), signal.SIGKILL)"
    program = f"import os, signal\nfrom yardstick.processes import spinning\n{killed}"
    paths = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    before = spinners()
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths}, check=False)
    wait_until(lambda: spinners() <= before)


def children_of(parent: int) -> set[int]:
    """Processes that spin and that ``parent`` has started."""
    status = {process: Path(f"/proc/{process}/status").read_text() for process in spinners()}
    return {process for process, text in status.items() if f"PPid:\t{parent}\n" in text}


def spinners() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if processes.SPINNER.encode() in path.read_bytes():
                found.add(int(path.parent.name))
    return found


def seconds(process: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(met: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not met():
        assert time.monotonic() < until
        time.sleep(0.05)

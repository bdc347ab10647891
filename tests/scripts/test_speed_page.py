"""docs/speed.md has the numbers of docs/results/speed: what its three commands wrote to throughput.json."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

import results
from yardstick.loads import LOADS
from yardstick.results import SPEED, compare, judge, machine_line, summarise

TEXT = " ".join((results.PAGE.parent / "speed.md").read_text().split())
FRAMEWORKS = ("bare", "bare-flush", "vaezoo", "vaezoo-lightning", "textbook-0", "textbook-2", "pythae")
THREADS = ("vaezoo", "vaezoo-1", "vaezoo-2")


def stored(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((results.RESULTS / "speed" / f"{name}.json").read_text())
    return found


def medians(name: str, load: str, contestants: Sequence[str], bold: str = "") -> str:
    """A row of a table without its first cell."""
    cells = []
    for contestant in contestants:
        found = summarise(stored(name)["measurements"], load, contestant, SPEED)
        assert found is not None
        cells.append(f"**{found.median:,.0f}**" if contestant == bold else f"{found.median:,.0f}")
    return " | ".join(cells)


@pytest.mark.parametrize(("name", "busy"), [("frameworks", 0), ("threads", 0), ("threads_busy", 1)])
def test_measurements_are_those_of_the_commands_on_the_page(name: str, busy: int) -> None:
    record = stored(name)
    assert (record["quick"], record["repeats"], record["machine"]["busy"]) == (False, 3, busy)
    assert not [one for one in record["measurements"] if "failed" in one]
    machine = machine_line({**record["machine"], "busy": 0})
    assert machine == machine_line({**stored("frameworks")["machine"], "busy": 0})
    assert machine in TEXT


@pytest.mark.parametrize("load", ["mnist-mlp", "digits-mlp", "sprites-conv", "cifar-resnet"])
def test_speeds_beside_other_frameworks_are_the_medians(load: str) -> None:
    assert f"| {LOADS[load].title} | {medians('frameworks', load, FRAMEWORKS, 'vaezoo')} |" in TEXT


@pytest.mark.parametrize("load", ["mnist-mlp", "digits-mlp"])
def test_speeds_by_threads_are_the_medians(load: str) -> None:
    title = LOADS[load].title
    assert f"| {title} | {medians('threads', load, THREADS)} |" in TEXT
    assert f"{title} | {medians('threads', load, THREADS)} | | the same, beside a busy process |" in TEXT
    assert f"| the same, beside a busy process | {medians('threads_busy', load, THREADS)} |" in TEXT


def test_what_is_said_of_ratios_is_within_turns() -> None:
    measurements = stored("frameworks")["measurements"]
    gains = []
    for load in ("mnist-mlp", "digits-mlp"):
        found = compare(measurements, load, "vaezoo", "vaezoo-lightning", SPEED)
        assert found is not None
        gains.append(f"{100 * (found.median - 1):.0f}%")
    assert "gains {} on the MNIST load and {} on the digits".format(*gains) in TEXT
    verdicts = judge(measurements, "cpu")
    missed = [one for one in verdicts if one.outcome == "missed"]
    assert {one.outcome for one in verdicts} == {"reached", "missed"}
    assert f"{len(verdicts) - len(missed)} of {len(verdicts)} targets" in TEXT
    for one in missed:
        assert one.measured is not None
        assert f"| {one.what} | {one.bound} | {one.measured.median:.2f} |" in TEXT

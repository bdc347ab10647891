"""A prior fitted to indices learns what is in them, keeps its best epoch, and depends on its seed alone."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.nn.index_layout import one_grid
from vaezoo.nn.priors import indices
from vaezoo.training import index_prior
from vaezoo.training.index_prior import PriorSettings, fit_index_prior, learning_rate, no_index_prior

SMALL = PriorSettings(epochs=3, width=8, layers=1, batch_size=32)
CPU = torch.device("cpu")
LAYOUT = one_grid((4,), 2, 2)


def skewed(count: int, seed: int) -> Tensor:
    """Maps of 2x2 positions and 4 codes: mostly code 0 first, and each further one mostly that before it."""
    generator = torch.Generator().manual_seed(seed)
    found = [(torch.rand(count, generator=generator) < 0.2).long() * torch.randint(4, (count,), generator=generator)]
    for _ in range(3):
        stays = torch.rand(count, generator=generator) < 0.9
        found.append(torch.where(stays, found[-1], torch.randint(4, (count,), generator=generator)))
    return torch.stack(found, 1).view(count, 1, 2, 2)


def fit(training: Tensor, validation: Tensor, settings: PriorSettings, sizes: Sequence[int] = (4,)) -> tuple:  # type: ignore[type-arg]
    layout = one_grid(tuple(sizes), *validation.shape[2:])
    return fit_index_prior(lambda epoch: training, validation, layout, settings, device=CPU)


def test_the_rate_falls_below_that_of_uniform_and_of_independent_indices() -> None:
    training, new = skewed(2000, 0), skewed(500, 1)
    prior, rates = fit(training, new, SMALL)
    uniform, independent = 4 * math.log(4), LAYOUT.independent_rate(new)
    assert rates[0] == pytest.approx(uniform, rel=1e-6)
    assert len(rates) == 4
    assert min(rates) < independent < uniform
    assert -prior.log_prob(new).mean().item() == pytest.approx(min(rates), rel=1e-5)
    drawn = prior.sample(2000, torch.Generator().manual_seed(0))
    assert LAYOUT.independent_rate(drawn) == pytest.approx(LAYOUT.independent_rate(training), rel=0.15)


def test_a_fit_depends_on_its_seed_alone() -> None:
    training, new = skewed(200, 0), skewed(50, 1)
    state = torch.get_rng_state()
    one, other = fit(training, new, SMALL), fit(training, new, PriorSettings(**SMALL.as_dict() | {"seed": 1}))
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(99)
    again = fit(training, new, SMALL)
    assert one[1] == again[1] != other[1]
    weights = [found[0].network.state_dict() for found in (one, again)]
    assert all(map(torch.equal, *(state.values() for state in weights)))


def test_the_best_epoch_is_kept_and_a_fit_that_becomes_worse_ends() -> None:
    """Noise cannot be learned, so the best is before the first epoch: the uniform distribution."""
    generator = torch.Generator().manual_seed(0)
    training, new = torch.randint(4, (50, 1, 2, 2), generator=generator), torch.randint(4, (500, 1, 2, 2))
    prior, rates = fit(training, new, PriorSettings(epochs=50, width=16, batch_size=8))
    best = rates.index(min(rates))
    assert len(rates) == best + 1 + index_prior.PATIENCE < 51
    assert rates[-1] > rates[best]
    assert -prior.log_prob(new).mean().item() == pytest.approx(rates[best], rel=1e-5)
    assert rates[best] <= 4 * math.log(4) + 1e-5


def test_levels_are_modelled_together() -> None:
    """Two levels of which the second repeats the first cost no more than one."""
    first = torch.randint(6, (3000, 1, 1, 2), generator=torch.Generator().manual_seed(0)).clamp(max=3)
    both = torch.cat([first, first], 1)
    _, rates = fit(both[:2500], both[2500:], PriorSettings(epochs=8, width=32, batch_size=32), (4, 5))
    assert rates[0] == pytest.approx(2 * (math.log(4) + math.log(5)), rel=1e-6)
    assert min(rates) == pytest.approx(one_grid((4,), 1, 2).independent_rate(first[2500:]), abs=0.1)


def test_a_batch_in_parts_has_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    training, new = skewed(100, 0), skewed(50, 1)
    whole = fit(training, new, SMALL)[1]
    monkeypatch.setattr(indices, "AT_ONCE", 100)
    assert fit(training, new, SMALL)[1] == pytest.approx(whole, rel=1e-4)


def test_each_epoch_asks_for_its_indices_and_each_step_and_epoch_is_reported() -> None:
    asked, steps, epochs = list[int](), list[int](), list[int]()

    def training(epoch: int) -> Tensor:
        asked.append(epoch)
        return skewed(100, epoch)

    fit_index_prior(
        training, skewed(50, 9), LAYOUT, SMALL, device=CPU, step=lambda: steps.append(1),
        finished=lambda epoch, rate: epochs.append(epoch),
    )  # fmt: skip
    assert asked == epochs == [0, 1, 2]
    assert len(steps) == 3 * 4


def test_the_learning_rate_rises_and_falls() -> None:
    long = [learning_rate(at, 4000) for at in range(4000)]
    assert long[0] == pytest.approx(2e-5)
    assert max(long) == pytest.approx(2e-3, rel=0.01)
    assert long.index(max(long)) == 99
    assert long[-1] < 1e-8
    assert max(learning_rate(at, 20) for at in range(20)) > 1.9e-3


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"epochs": 0}, r"prior\.epochs must be at least 1, got 0"),
        ({"width": 10}, r"prior\.width must be a multiple of 4, got 10"),
        ({"layers": 65}, r"prior\.layers must be at most 64, got 65"),
        ({"seed": -1}, r"prior\.seed must be at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PriorSettings(**setting)


def test_indices_beyond_the_limits_have_a_reason() -> None:
    assert no_index_prior(one_grid((512,), 7, 7)) == ""
    assert "at most 65,536 codes, and these have 65,537" in no_index_prior(one_grid((8, 2**16 + 1), 7, 7))
    assert "at most 4,096 indices of an image, and these are 4,225" in no_index_prior(one_grid((8,), 65, 65))

"""The prior over indices is a distribution, causal, uniform before training, and draws what it says."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from vaezoo.nn.index_layout import IndexGrid, IndexLayout, one_grid
from vaezoo.nn.priors import indices as module
from vaezoo.nn.priors.indices import IndexPrior, IndexTransformer


def trained(sizes: tuple[int, ...], positions: int, *, width: int = 8, layers: int = 2) -> IndexTransformer:
    """A network with random weights everywhere, whose probabilities are far from uniform."""
    layout = one_grid(sizes, 2, 3) if positions == 6 else one_grid(sizes, 1, positions)
    return randomised(IndexTransformer(layout, width=width, layers=layers))


def randomised(network: IndexTransformer) -> IndexTransformer:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape))
    return network


def every_sequence(sizes: tuple[int, ...], positions: int) -> Tensor:
    return torch.tensor(list(itertools.product(*(range(size) for size in sizes * positions))))


@pytest.mark.parametrize(("sizes", "positions"), [((2,), 6), ((3,), 4), ((2, 3), 3), ((1, 4), 2)])
def test_probabilities_of_all_sequences_add_up_to_one(sizes: tuple[int, ...], positions: int) -> None:
    network, found = trained(sizes, positions), every_sequence(sizes, positions)
    assert len(found) == math.prod(sizes) ** positions
    probabilities = network.log_probs(found).double().sum(1).exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    assert probabilities.max() > 3 / len(found)


@pytest.mark.parametrize("sizes", [(5,), (3, 4)])
def test_each_probability_depends_on_the_indices_before_it_alone(sizes: tuple[int, ...]) -> None:
    network = trained(sizes, 4)
    sequence = torch.stack([torch.randint(size, (1, 4)) for size in sizes], 2).flatten(1)
    kept: list[Tensor] = []
    network.embedding.register_forward_hook(lambda *parts: (parts[2].retain_grad(), kept.append(parts[2]))[0])
    for place in range(network.length):
        kept.clear()
        network.log_probs(sequence)[0, place].backward()
        (gradient,) = (part.grad for part in kept)
        assert gradient is not None
        reached = gradient[0].abs().sum(1) > 0  # at t, the embedding of what precedes place t
        assert reached.tolist() == [at <= place for at in range(network.length)]


def test_changing_an_index_changes_later_probabilities_alone() -> None:
    network, sequence = trained((5,), 6), torch.randint(5, (1, 6))
    before = network.log_probs(sequence)
    for place in range(6):
        other = sequence.clone()
        other[0, place] = (other[0, place] + 1) % 5
        after = network.log_probs(other)
        assert torch.equal(after[0, :place], before[0, :place])
        assert (after[0, place:] != before[0, place:]).all()


@pytest.mark.parametrize("sizes", [(64,), (7, 3, 1)])
def test_before_training_it_is_the_uniform_distribution(sizes: tuple[int, ...]) -> None:
    prior = IndexPrior(IndexTransformer(one_grid(sizes, 2, 3)))
    maps = torch.stack([torch.randint(size, (10, 2, 3)) for size in sizes], 1)
    expected = 6 * sum(math.log(size) for size in sizes)
    torch.testing.assert_close(-prior.log_prob(maps), torch.full((10,), expected, dtype=torch.double))


def test_without_gradients_torch_takes_a_faster_way_to_the_same_values() -> None:
    network, sequence = trained((5,), 6).eval(), torch.randint(5, (20, 6))
    with torch.no_grad():
        fast = network.log_probs(sequence)
    torch.testing.assert_close(fast, network.log_probs(sequence).detach(), rtol=1e-4, atol=1e-5)


def test_draws_have_the_probabilities_that_the_network_says() -> None:
    """All 36 sequences of 3 positions, which must occur as often as they should: a chi-squared of 35 degrees."""
    network, found = trained((2, 3), 2).eval(), every_sequence((2, 3), 2)
    expected = 20_000 * network.log_probs(found).detach().double().sum(1).exp()
    drawn = network.sample(torch.rand(20_000, 4, generator=torch.Generator().manual_seed(1)))
    numbers = drawn @ torch.tensor([18, 6, 3, 1])
    counts = torch.bincount(numbers, minlength=36).double()
    common = expected > 5
    assert common.sum() > 8
    assert ((counts - expected).square() / expected)[common].sum() < 66  # exceeded once in a thousand
    assert counts[~common].sum() == pytest.approx(expected[~common].sum(), abs=20)


@pytest.mark.parametrize("sizes", [(5,), (3, 4)])
def test_drawing_one_index_after_another_takes_the_probabilities_of_whole_sequences(sizes: tuple[int, ...]) -> None:
    """The logits of each step, from kept keys and values, are those of the sequence that was drawn."""
    network, logits = trained(sizes, 5).eval(), list[Tensor]()
    for head in network.heads:
        head.register_forward_hook(lambda *parts: logits.append(parts[2]))
    drawn = network.sample(torch.rand(30, network.length))
    assert len(logits) == network.length
    own = [part.log_softmax(-1).gather(1, drawn[:, at : at + 1]) for at, part in enumerate(logits)]
    torch.testing.assert_close(torch.cat(own, 1), network.log_probs(drawn).detach(), rtol=1e-4, atol=1e-5)


def test_draws_depend_on_the_generator_and_not_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = IndexPrior(trained((5, 3), 6))
    one = prior.sample(50, torch.Generator().manual_seed(1))
    assert (one.shape, one.dtype) == ((50, 2, 2, 3), torch.int64)
    assert one[:, 0].max() < 5
    assert one[:, 1].max() == 2
    assert not torch.equal(one, prior.sample(50, torch.Generator().manual_seed(2)))
    monkeypatch.setattr(module, "AT_ONCE", 1000)
    assert torch.equal(one, prior.sample(50, torch.Generator().manual_seed(1)))


def test_probabilities_do_not_depend_on_how_many_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, maps = IndexPrior(trained((5,), 6)), torch.randint(5, (20, 1, 2, 3))
    whole = prior.log_prob(maps)
    monkeypatch.setattr(module, "AT_ONCE", 100)
    torch.testing.assert_close(prior.log_prob(maps), whole)


# two grids -----------------------------------------------------------------------------------------------------------

TWO = IndexLayout({"top": IndexGrid((3,), 1, 2), "bottom": IndexGrid((2, 4), 1, 2)})
SEQUENCES = torch.tensor(list(itertools.product(*map(range, (3, 3, 2, 4, 2, 4)))))
"""All sequences: two indices of the top, then two positions of the bottom with two levels each."""


def test_the_codebooks_of_two_grids_alternate_only_within_a_grid() -> None:
    network = randomised(IndexTransformer(TWO, width=8)).eval()
    assert network.books == [0, 0, 1, 2, 1, 2]
    assert network.starts == [0, 0, 3, 5, 3, 5]
    assert network.log_probs(SEQUENCES).double().sum(1).exp().sum().item() == pytest.approx(1, abs=1e-5)
    uniform = IndexPrior(IndexTransformer(TWO, width=8))
    expected = torch.full((len(SEQUENCES),), TWO.uniform_rate(), dtype=torch.double)
    torch.testing.assert_close(-uniform.log_prob(SEQUENCES), expected)


def test_the_top_comes_first_and_the_bottom_depends_on_it() -> None:
    network = randomised(IndexTransformer(TWO, width=8)).eval()
    one, other = SEQUENCES[:1], SEQUENCES[:1].clone()
    other[0, 0] = 2
    before, after = network.log_probs(one), network.log_probs(other)
    assert (before[0, 1:] != after[0, 1:]).all()
    other = one.clone()
    other[0, 2:] = torch.tensor([1, 3, 1, 3])
    assert torch.equal(network.log_probs(other)[0, :2], before[0, :2])


def test_draws_of_two_grids_have_the_probabilities_that_the_network_says() -> None:
    prior = IndexPrior(randomised(IndexTransformer(TWO, width=8)))
    drawn = prior.sample(20_000, torch.Generator().manual_seed(1))
    assert drawn.shape == (20_000, 6)
    expected = 20_000 * prior.log_prob(SEQUENCES).exp()
    counts = torch.bincount(drawn @ torch.tensor([192, 64, 32, 8, 4, 1]), minlength=len(SEQUENCES)).double()
    common = expected > 5
    statistic = ((counts - expected).square() / expected)[common].sum().item()
    freedom = int(common.sum())
    assert freedom > 20
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)
    assert counts[~common].sum().item() == pytest.approx(expected[~common].sum().item(), rel=0.2, abs=20)

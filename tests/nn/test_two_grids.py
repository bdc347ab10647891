"""Two grids of codes: what each is computed from, where gradients go, and what the indices stand for."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.nn.quantizers import make_quantizer
from vaezoo.nn.quantizers.two_grids import TwoGridQuantizer

OPTIONS: dict[str, dict[str, Any]] = {
    "vq": {"size": 6},
    "rvq": {"size": 6, "levels": 2},
    "fsq": {"levels": [3, 5]},
    "lfq": {"bits": 3},
    "bsq": {"bits": 3},
    "simvq": {"size": 6},
}
"""All quantisers that give one code for each vector."""


def made(name: str = "vq", grid: tuple[int, int] = (5, 4), **options: Any) -> TwoGridQuantizer:
    torch.manual_seed(0)
    found = TwoGridQuantizer(lambda: make_quantizer(name, None, OPTIONS[name] | options), 8)
    found.lay_out(*grid)
    return found


def encoded(quantizer: TwoGridQuantizer, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors of the top, its codes, vectors of the bottom, and its codes, written out (Razavi et al., algorithm 1)."""
    of_top = quantizer.down(z)
    top = quantizer.top(of_top).code
    raised = quantizer.up(top)[..., : z.shape[2], : z.shape[3]]
    of_bottom = quantizer.joined(torch.cat([z, raised], 1))
    return of_top, top, of_bottom, quantizer.bottom(of_bottom).code


@pytest.mark.parametrize("name", OPTIONS)
def test_codes_penalties_and_indices_are_those_of_the_grids(name: str) -> None:
    quantizer, z = made(name).eval(), torch.randn(3, 8, 5, 4)
    found = quantizer(z)
    of_top, top, of_bottom, bottom = encoded(quantizer, z)
    assert top.shape[2:] == (3, 2)
    assert bottom.shape[2:] == (5, 4)
    torch.testing.assert_close(found.code, torch.cat([top.flatten(1), bottom.flatten(1)], 1))
    shape, layout = quantizer.lay_out(5, 4)
    assert found.code.shape[1:] == shape
    assert found.indices.shape[1:] == layout.shape
    own, other = quantizer.top(of_top), quantizer.bottom(of_bottom)
    assert found.penalties.keys() == own.penalties.keys()
    for term, penalty in found.penalties.items():
        torch.testing.assert_close(penalty, own.penalties[term] + other.penalties[term])
    of_grids = layout.split(found.indices)
    assert torch.equal(of_grids[0], own.indices)
    assert torch.equal(of_grids[1], other.indices)


@pytest.mark.parametrize("name", OPTIONS)
def test_indices_stand_for_the_codes(name: str) -> None:
    quantizer, z = made(name).eval(), torch.randn(3, 8, 5, 4)
    code, indices, _ = quantizer(z)
    torch.testing.assert_close(quantizer.codes(indices), code)
    assert torch.equal(quantizer.indices_of(code), indices)
    torch.testing.assert_close(quantizer.project(quantizer.path(z)), code)


def test_the_bottom_trains_the_top_through_its_codes() -> None:
    """Without an estimator for the top's codes, a loss of the bottom would leave the top's encoder as it is."""
    quantizer, z = made(), torch.randn(3, 8, 5, 4)
    top, bottom = quantizer.split(quantizer(z).code)
    bottom.square().sum().backward(retain_graph=True)
    of_bottom = [parameter.grad.clone() for parameter in quantizer.down.parameters()]  # type: ignore[union-attr]
    assert all(gradient.abs().sum() > 0 for gradient in of_bottom)
    assert all(parameter.grad.abs().sum() > 0 for parameter in quantizer.up.parameters())  # type: ignore[union-attr]
    quantizer.zero_grad()
    top.square().sum().backward()
    theirs = (*quantizer.up.parameters(), *quantizer.joined.parameters())
    assert not any(parameter.grad is not None and parameter.grad.any() for parameter in theirs)


def test_the_gradient_of_the_bottom_in_the_tops_vectors_is_that_in_its_codes() -> None:
    quantizer, z = made().eval(), torch.randn(2, 8, 4, 4)
    quantizer.lay_out(4, 4)
    vectors: list[Tensor] = []
    handle = quantizer.down.register_forward_hook(lambda *parts: (parts[2].retain_grad(), vectors.append(parts[2]))[0])
    quantizer.split(quantizer(z).code)[1].square().sum().backward()
    handle.remove()
    codes = quantizer.top(vectors[0].detach()).code.detach().requires_grad_()
    raised = quantizer.up(codes)
    quantizer.bottom(quantizer.joined(torch.cat([z, raised], 1))).code.square().sum().backward()
    torch.testing.assert_close(vectors[0].grad, codes.grad)


def test_the_commitment_moves_each_grid_towards_its_codes() -> None:
    """Its gradient in the bottom's vectors is 2 (z - e), and nothing of it reaches the codes."""
    quantizer, z = made(update="gradient"), torch.randn(2, 8, 5, 4)
    kept: dict[str, Tensor] = {}
    for name in ("down", "joined"):
        part = quantizer.get_submodule(name)
        part.register_forward_hook(lambda *parts, name=name: (parts[2].retain_grad(), kept.update({name: parts[2]}))[0])
    found = quantizer(z)
    found.penalties["commitment"].sum().backward()
    bottom = quantizer.split(found.code)[1]
    torch.testing.assert_close(kept["joined"].grad, 2 * (kept["joined"] - bottom).detach())
    for book in (quantizer.top.codebook, quantizer.bottom.codebook):
        assert book.grad is None or not book.grad.any()  # type: ignore[union-attr, operator]


def test_what_the_decoder_sees_depends_on_both_grids_position_by_position() -> None:
    quantizer = made(grid=(4, 4)).eval()
    code = torch.randn(1, 2 * 2 * 16 + 4 * 4 * 16)
    seen = quantizer.on_one_grid(code)
    assert seen.shape == (1, 32, 4, 4)
    torch.testing.assert_close(seen[:, 16:], quantizer.split(code)[1])
    torch.testing.assert_close(seen[:, :16], quantizer.spread(quantizer.split(code)[0]))


def test_the_bottom_starts_at_vectors_that_follow_from_the_started_top() -> None:
    quantizer, z = made().train(), torch.randn(20, 8, 5, 4)
    assert quantizer.wants_images
    quantizer.start_from(z)
    assert not quantizer.wants_images
    assert quantizer.training
    assert quantizer.top.training
    for part in (quantizer.top, quantizer.bottom):
        assert not part.batch_counts.any()  # type: ignore[union-attr, operator]
        assert (part.keys < 0).all()  # type: ignore[operator]
    of_top, _, of_bottom, _ = encoded(quantizer.eval(), z)
    for part, vectors in ((quantizer.top, of_top), (quantizer.bottom, of_bottom)):
        flat = vectors.detach().movedim(1, -1).flatten(0, -2)
        assert part(vectors).indices.unique().numel() == 6
        spread = (flat - flat.mean(0)).square().sum(1).mean()
        assert part(vectors).penalties["commitment"].sum() / len(flat) < spread


def test_more_codes_than_the_top_has_vectors_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"size must be at most the number of vectors .* is 12 for these .* got 13"):
        made(size=13).start_from(torch.randn(2, 8, 5, 4))


def test_an_update_moves_the_codes_of_both_grids() -> None:
    quantizer, z = made(), torch.randn(4, 8, 5, 4)
    before = [part.codebook.clone() for part in (quantizer.top, quantizer.bottom)]  # type: ignore[operator]
    quantizer(z)
    quantizer.update()
    after = [part.codebook for part in (quantizer.top, quantizer.bottom)]
    assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))  # type: ignore[arg-type]
    restarts = {"restarts_top": quantizer.top.restarted, "restarts_bottom": quantizer.bottom.restarted}
    assert quantizer.statistics() == restarts
    assert made("fsq").statistics() == {}


def test_a_quantiser_that_draws_codes_is_refused() -> None:
    make: Callable[[], Any] = lambda: make_quantizer("gumbel", None, {"size": 6})  # noqa: E731
    with pytest.raises(ConfigError, match="must give one code for each vector"):
        TwoGridQuantizer(make, 8)


def test_codes_and_penalties_are_in_single_precision_under_autocast() -> None:
    quantizer = made()
    with torch.autocast("cpu", torch.bfloat16):
        found = quantizer(torch.randn(2, 8, 5, 4))
        seen = quantizer.on_one_grid(found.code)
    assert found.code.dtype == found.penalties["commitment"].dtype == torch.float32
    assert torch.equal(seen[:, 16:], quantizer.split(found.code)[1])

"""Autoencoders whose codes are points: their limits, their penalties, and what keeps these from being evaded."""

from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from torch import Tensor

from vaezoo.commands.check import Make
from vaezoo.config import hydra_config
from vaezoo.models import AE, VAE, ContractiveAE
from vaezoo.nn.constraints import layers

LIMITS: dict[str, tuple[str, list[str]]] = {
    "denoising_ae": ("ae", ["model.corruption_options={sigma: 0}"]),
    "denoising_vae": ("vae", ["model.corruption_options={sigma: 0}"]),
    "rae": ("ae", ["model.weight=0", "model.embedding_weight=0"]),
    "rae gradient": ("ae", ["model.kind=gradient", "model.weight=0", "model.embedding_weight=0"]),
    "rae none": ("ae", ["model.kind=none", "model.embedding_weight=0"]),
    "sparse_ae": ("ae", ["model.kind=top_k", "model.k=10"]),
}


def objective(model: Any, x: Tensor) -> Tensor:
    torch.manual_seed(1)
    found: Tensor = model.objective(model.loss_terms(x), model.weights())
    return found


@pytest.mark.parametrize("case", LIMITS)
def test_without_noise_or_weights_a_model_is_the_plain_one_exactly(case: str, make_model: Make) -> None:
    name, overrides = LIMITS[case]
    x = torch.rand(5, 1, 16, 16)
    torch.manual_seed(0)
    model = make_model(case.partition(" ")[0], *overrides)
    torch.manual_seed(0)
    plain = make_model(name)
    found, expected = objective(model, x), objective(plain, x)
    assert torch.equal(found, expected)
    found.mean().backward(), expected.mean().backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_a_contraction_without_weight_is_the_ae_with_sigmoid_codes(make_model: Make) -> None:
    model, plain, x = make_model("contractive_ae", "model.weight=0"), make_model("ae"), torch.rand(5, 1, 16, 16)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(objective(model, x), plain.nll(x, torch.sigmoid(plain.features(x))))


KINDS = ("rae", ("l2", "gradient", "spectral", "none")), ("sparse_ae", ("l1", "kl", "top_k"))


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in KINDS for kind in kinds])
def test_every_kind_is_the_sum_that_its_formula_says(name: str, kind: str, make_model: Make) -> None:
    model, x = make_model(name, f"model.kind={kind}"), torch.rand(5, 1, 16, 16)
    torch.manual_seed(1)
    terms = model.loss_terms(x)
    expected = terms.recon
    for summand in model.formula().partition(",")[0].split(" + ")[1:]:
        weight, term = summand.split()
        expected = expected + float(weight) * terms.penalties[term]
    torch.testing.assert_close(model.objective(terms, model.weights()), expected)
    assert all(term.shape == (5,) for term in terms.penalties.values())


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in KINDS for kind in kinds])
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_every_kind_trains_and_is_restored_and_evaluated(name: str, kind: str, network: str, make_model: Make) -> None:
    overrides = [f"model.kind={kind}", f"model.network={network}"]
    model, again = (make_model(name, *overrides, image_shape=[1, 8, 8]) for _ in range(2))
    x, optimizer = torch.rand(16, 1, 8, 8), torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = objective(model, x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5])
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().reconstruct(x), model.eval().reconstruct(x))
    with torch.inference_mode():
        terms = model.loss_terms(x)
    assert all(term.isfinite().all() for term in terms.penalties.values())
    assert ("activation_kl" in terms.batch_statistics) == (kind == "kl")
    codes = model.encode(x)
    torch.testing.assert_close(model.project(codes), codes)


def test_penalties_are_those_of_the_codes(make_model: Make) -> None:
    x = torch.rand(5, 1, 16, 16)
    model = make_model("sparse_ae")
    code, terms = model.encode(x), model.loss_terms(x)
    torch.testing.assert_close(terms.penalties["l1"], code.abs().sum(1))
    torch.testing.assert_close(terms.penalties["active_share"], (code.abs() > 1e-3).float().mean(1))
    model = make_model("sparse_ae", "model.kind=top_k", "model.k=2")
    torch.testing.assert_close(model.loss_terms(x).penalties["active_share"], torch.full((5,), 0.2))
    model = make_model("rae")
    torch.testing.assert_close(model.loss_terms(x).penalties["embedding"], 0.5 * model.encode(x).square().sum(1))


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("rae", ["model.kind=l3"], "model.kind must be one of l2, gradient, spectral, none, got 'l3'"),
        ("rae", ["model.kind=none", "model.weight=1"], "model.weight weighs the term of model.kind=l2 or gradient"),
        ("rae", ["model.embedding_weight=-1"], "model.embedding_weight must be at least 0, got -1"),
        ("sparse_ae", ["model.kind=l3"], "model.kind must be one of l1, kl, top_k, got 'l3'"),
        ("sparse_ae", ["model.kind=top_k", "model.k=11"], "model.k must be at most 10, got 11"),
        ("sparse_ae", ["model.kind=kl", "model.rho=1.0"], "model.rho must be between 0 and 1, got 1"),
        ("contractive_ae", ["model.weight=-1"], "model.weight must be at least 0, got -1"),
        (
            "sparse_ae",
            ["model.kind=kl", "+model.scheduler.name=ReduceLROnPlateau"],
            "model.scheduler watches val/loss, which model.kind=kl does not have",
        ),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(
    name: str, overrides: list[str], sentence: str, make_model: Make
) -> None:
    with pytest.raises(InstantiationException) as caught:
        make_model(name, *overrides)
    assert sentence in str(hydra_config.explain(caught.value))


# penalties are not evaded by a change of scale -----------------------------------------------------------------------


def trained(model: Any, x: Tensor, steps: int = 500) -> tuple[float, float, float]:
    """Scale of the codes, norm of the decoder's weights, and the mean of the penalty, after training."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        terms = model.loss_terms(x)
        model.objective(terms, model.weights()).mean().backward()
        optimizer.step()
    norm = sum(layer.weight.square().sum().item() for layer in layers(model.decoder)) ** 0.5
    _, penalty = next(item for item in reversed(terms.penalties.items()))
    return model.encode(x).std(0).mean().item(), norm, penalty.mean().item()


def toy(dimensions: int = 4) -> Tensor:
    """Images (256, 1, 8, 8) on a surface of few dimensions."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(dimensions, 64, generator=generator)
    code = torch.randn(256, dimensions, generator=generator)
    return torch.sigmoid(code @ basis / 1.5).view(-1, 1, 8, 8)


class Unbounded(ContractiveAE):
    """The contractive autoencoder without the bound on its codes."""

    def code(self, x: Tensor) -> Tensor:
        return self.features(x)


@pytest.mark.parametrize("cls", [ContractiveAE, Unbounded])
def test_contraction_does_not_shrink_codes_that_are_bounded(cls: type[ContractiveAE]) -> None:
    found = []
    for weight in (0.0, 0.05):
        torch.manual_seed(0)
        model = cls(image_shape=(1, 8, 8), latent_dim=4, widths=[32], likelihood="bernoulli", weight=weight)
        found.append(trained(model, toy()))
    (scale, norm, contraction), (smaller, larger, contracted) = found
    assert contracted < 0.7 * contraction
    within = scale < 2 * smaller and larger < 2 * norm
    assert within == (cls is ContractiveAE), found


@pytest.mark.parametrize("constrained", [True, False])
def test_an_l1_penalty_cannot_grow_the_decoder(constrained: bool, make_model: Make) -> None:
    found = []
    kind = "l1" if constrained else "top_k"
    for weight in (0.0, 0.1):
        torch.manual_seed(0)
        model: Any = make_model(
            "sparse_ae",
            f"model.kind={kind}",
            *("model.latent_dim=4", "model.k=4", "model.widths=[32]", "model.likelihood=bernoulli"),
            image_shape=[1, 8, 8],
        )
        model.kind, model.term_weights = "l1", {"l1": weight}
        found.append(trained(model, toy()))
    (_, norm, _), (_, larger, _) = found
    assert (larger == pytest.approx(norm)) == constrained
    assert (larger > 1.2 * norm) == (not constrained), found


# mixtures ------------------------------------------------------------------------------------------------------------


def test_samples_of_a_mixture_need_one_that_was_fitted() -> None:
    model: Any = AE(image_shape=(1, 8, 8), latent_dim=3, widths=[8]).eval()
    with pytest.raises(ValueError, match="none was fitted to the codes of this model; load the run folder after"):
        model.sample(2, prior="mixture")
    with pytest.raises(ValueError, match=r"sample needs prior=None, for the model's own, or 'mixture', got 'normal'"):
        model.sample(2, prior="normal")
    mixture = model.fit_prior(torch.randn(100, 3), components=2)
    found = model.sample(5, torch.Generator().manual_seed(1), prior="mixture")
    expected = model.decode(mixture.sample(5, torch.Generator().manual_seed(1))).detach()
    assert torch.equal(found, expected)
    assert model.sample(2) is None
    assert "mixture" not in model.state_dict()


def test_a_vae_keeps_its_own_prior_beside_a_mixture() -> None:
    model = VAE(image_shape=(1, 8, 8), latent_dim=3, widths=[8]).eval()
    own = model.sample(4, torch.Generator().manual_seed(0))
    model.fit_prior(5 + torch.randn(50, 3))
    again, mixed = (model.sample(4, torch.Generator().manual_seed(0), prior=prior) for prior in (None, "mixture"))
    assert own is not None
    assert again is not None
    assert mixed is not None
    assert torch.equal(own, again)
    assert not torch.equal(own, mixed)

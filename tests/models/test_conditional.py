"""Conditional models: labels beside images and codes, p(x|y) by enumeration, and what is refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import vaezoo
from vaezoo import Run
from vaezoo.config.errors import ConfigError, ImageError, NonFiniteLossError
from vaezoo.data import ImageDataModule
from vaezoo.metrics.bounds import importance_weighted_bound
from vaezoo.metrics.latent import decompose
from vaezoo.models import VAE, ConditionalVAE

Program = Callable[..., tuple[int, str]]
Train = Callable[..., Run]
LABELS = torch.tensor([2, 0, 1, 2, 2])
X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def small(**settings: Any) -> ConditionalVAE:
    size = {} if "code_channels" in settings else {"latent_dim": 3}
    model = ConditionalVAE(**{"image_shape": [1, 8, 8], "widths": [8], "classes": 3, **size, **settings})
    return model.eval()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ignoring(model: ConditionalVAE) -> ConditionalVAE:
    """The model with the weights of labels set to zero."""
    for name, parameter in model.named_parameters():
        if ".of_label" in name:
            nn.init.zeros_(parameter)
    return model


# limits and closed forms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["elbo", "iwae", "piwae"])
@pytest.mark.parametrize(
    "settings",
    [
        {"network": "mlp"},
        {"network": "conv"},
        {"network": "resnet"},
        {"network": "conv", "latent_dim": None, "code_channels": 2},
    ],
    ids=lambda each: "spatial" if "code_channels" in each else each["network"],
)
def test_networks_that_ignore_the_label_are_those_of_the_vae_to_the_bit(settings: dict[str, Any], bound: str) -> None:
    usual = {"image_shape": [1, 8, 8], "widths": [8], "latent_dim": 3, "bound": bound}
    model, vae = ignoring(small(bound=bound, **settings)), VAE(**usual | settings)
    own = vae.state_dict().keys()
    vae.load_state_dict({name: weight for name, weight in model.state_dict().items() if name in own})
    assert model.state_dict().keys() - own == {"label_frequency", "encoder.of_label.weight", "decoder.of_label.weight"}
    found = []
    for each, batch in ((model, (X, LABELS)), (vae.eval(), (X,))):
        torch.manual_seed(1)
        each.zero_grad()
        terms = each.loss_terms(*batch)
        each.objective(terms, {}).mean().backward()
        found.append((terms, {name: part.grad for name, part in each.named_parameters()}))
    (terms, gradients), (others, wanted) = found
    assert torch.equal(terms.recon, others.recon)
    assert torch.equal(terms.kl, others.kl)
    for name, gradient in wanted.items():
        assert torch.equal(gradients[name], gradient), name  # type: ignore[arg-type]
    assert torch.equal(model.given(LABELS).reconstruct(X), vae.reconstruct(X))
    assert torch.equal(model.given(1).sample(4, generator()), vae.sample(4, generator()))


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_a_label_is_a_further_input_of_the_first_layer(network: str) -> None:
    """One-hot entries of vectors, and constant planes of images."""
    model = small(network=network, image_shape=[2, 8, 8])
    x, codes = torch.rand(5, 2, 8, 8), torch.eye(3)[LABELS]
    first, of_label = model.encoder[model.encoder.place], model.encoder.of_label
    weight = torch.cat([first.weight, of_label.weight], 1)
    if network == "mlp":
        wanted = nn.functional.linear(torch.cat([x.flatten(1), codes], 1), weight, first.bias)
    else:
        planes = torch.cat([x, codes[..., None, None].expand(-1, -1, 8, 8)], 1)
        wanted = nn.functional.conv2d(planes, weight, first.bias, first.stride, first.padding)
    for layer in list(model.encoder)[model.encoder.place + 1 : -1]:
        wanted = layer(wanted)
    torch.testing.assert_close(model.encoder(x, codes), wanted)


def test_the_kl_from_the_prior_of_a_label_is_that_of_two_gaussians() -> None:
    model = small(prior="conditional")
    nn.init.normal_(model.prior_model.mean)  # type: ignore[union-attr]
    nn.init.normal_(model.prior_model.logvar)  # type: ignore[union-attr]
    terms, prior = model.loss_terms(X, LABELS), model.prior_model
    mean, logvar = model.given(LABELS).posterior(X).moments()  # type: ignore[misc]
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * logvar).exp()),
        torch.distributions.Normal(prior.mean[LABELS], (0.5 * prior.logvar[LABELS]).exp()),  # type: ignore[union-attr,index]
    )
    assert terms.kl_by == "dimension"
    torch.testing.assert_close(terms.kl, wanted)


def test_a_conditional_prior_starts_as_the_standard_normal() -> None:
    model, other = small(prior="conditional"), small()
    other.load_state_dict({key: value for key, value in model.state_dict().items() if "prior_model" not in key})
    found = []
    for each in (model, other):
        torch.manual_seed(1)
        found.append(each.loss_terms(X, LABELS))
    assert torch.equal(found[0].kl, found[1].kl)
    assert torch.equal(found[0].recon, found[1].recon)


@torch.no_grad()
@pytest.mark.parametrize("prior", ["normal", "conditional"])
def test_log_p_of_x_is_the_sum_over_labels(prior: str) -> None:
    """log p(x) = logsumexp_y(log p(x|y) + log p(y)): by quadrature, by importance sampling, and by joint draws."""
    model = small(latent_dim=1, prior=prior, likelihood="bernoulli").double()
    if prior == "conditional":
        model.prior_model.mean.copy_(torch.tensor([[-0.5], [0.3], [0.8]]))  # type: ignore[union-attr]
        model.prior_model.logvar.copy_(torch.tensor([[-0.5], [-1.5], [-1.0]]))  # type: ignore[union-attr]
    for parameter in (*model.encoder.parameters(), *model.decoder.parameters()):
        parameter.mul_(0.5)
    model.count_labels(torch.tensor([0, 1, 1, 2, 2, 2, 2, 2]))
    x, grid = X[:2].double().round(), torch.linspace(-12, 12, 4001).double()[:, None]
    by_grid, by_weights = [], []
    for label in range(3):
        seen = model.given(label)
        joint = seen.prior().log_prob(grid) - seen.nll_of_draws(x, grid[:, None].expand(-1, 2, -1)).T  # type: ignore[union-attr]
        by_grid.append(joint.logsumexp(1) + math.log(24 / 4000))
        labels = torch.full((2,), label)
        by_weights.append(importance_weighted_bound(model, x, 20_000, labels=labels)[0])
    exact, weighted = torch.stack(by_grid), torch.stack(by_weights)
    torch.testing.assert_close(weighted, exact, atol=0.01, rtol=0)
    log_p_of_y = torch.tensor([1, 2, 5]).double().div(8).log()[:, None]
    wanted = (exact + log_p_of_y).logsumexp(0)
    torch.manual_seed(0)
    labels = torch.multinomial(model.label_frequency, 50_000, replacement=True)
    seen = model.given(labels)
    codes = seen.prior().sample(len(labels))  # type: ignore[union-attr]
    draws = torch.stack([seen.log_likelihood(each.expand(len(labels), -1, -1, -1), codes) for each in x])
    torch.testing.assert_close(draws.logsumexp(1) - math.log(len(labels)), wanted, atol=0.02, rtol=0)


@torch.no_grad()
def test_without_labels_a_conditional_prior_is_that_of_all() -> None:
    """As many of each label as in training, which is also what samples and the decomposition of the KL use."""
    model = small(prior="conditional")
    nn.init.normal_(model.prior_model.mean)  # type: ignore[union-attr]
    model.count_labels(torch.tensor([0, 1, 1, 2, 2, 2, 2, 2]))
    code = torch.randn(6, 3)
    parts = [model.given(label).prior().log_prob(code) for label in range(3)]  # type: ignore[union-attr]
    wanted = (torch.stack(parts) + torch.tensor([1, 2, 5]).div(8).log()[:, None]).logsumexp(0)
    torch.testing.assert_close(model.prior().log_prob(code), wanted)  # type: ignore[union-attr]
    parts_of_kl = decompose(model.given(LABELS).posterior(X), model.prior(), generator=generator())  # type: ignore[arg-type]
    assert parts_of_kl.dimensionwise_kl is None


# the image API -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_rows_have_their_own_labels_or_all_the_same() -> None:
    model = small(prior="conditional")
    each = [model.given(int(label)) for label in LABELS]
    seen = model.given(LABELS)
    code = seen.encode(X)
    torch.testing.assert_close(code, torch.cat([one.encode(x[None]) for one, x in zip(each, X, strict=True)]))
    torch.testing.assert_close(
        seen.decode(code), torch.cat([one.decode(z[None]) for one, z in zip(each, code, strict=True)])
    )
    draws = torch.randn(4, 5, 3)
    alone = [one.nll_of_draws(x[None], draws[:, [at]]) for at, (one, x) in enumerate(zip(each, X, strict=True))]
    torch.testing.assert_close(seen.nll_of_draws(X, draws), torch.cat(alone, 1))
    assert not torch.allclose(code, model.given(0).encode(X))
    assert model.given(0).encode(X[0]).shape == (3,)
    assert VAE(image_shape=[1, 8, 8]).given(LABELS).labels_given is None
    assert model.labels_given is None  # the view does not change the model


@torch.no_grad()
def test_a_path_keeps_the_label_of_its_start() -> None:
    model, ends = small(), LABELS.flip(0)
    path = model.given(LABELS, ends).interpolate(X, X.flip(0), steps=4)
    start, end = model.given(LABELS), model.given(ends)
    torch.testing.assert_close(path[:, 0], start.reconstruct(X))
    torch.testing.assert_close(path[:, -1], start.decode(end.encode(X.flip(0))))
    middle = (2 * start.encode(X) + end.encode(X.flip(0))) / 3
    torch.testing.assert_close(path[:, 1], start.decode(middle))


def test_samples_have_given_labels_or_those_of_training() -> None:
    model = small()
    model.count_labels(torch.tensor([0, 2, 2, 2]))
    assert torch.equal(model.sample(4, generator(), labels=1), model.given(1).sample(4, generator()))  # type: ignore[arg-type]
    assert torch.equal(model.sample(5, generator(), labels=LABELS), model.given(LABELS).sample(5, generator()))  # type: ignore[arg-type]
    drawn: list[Tensor] = []
    model._checked = lambda labels: drawn.append(labels) or labels  # type: ignore[method-assign,func-returns-value]
    model.sample(4000, generator())
    counts = torch.bincount(drawn[0], minlength=3) / 4000
    torch.testing.assert_close(counts, torch.tensor([0.25, 0, 0.75]), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model: model.encode(X), "needs the label of each image; write model.given(labels)"),
        (lambda model: model.decode(torch.zeros(2, 3)), "needs the label of each image"),
        (lambda model: model.interpolate(X, X), "needs the label of each image"),
        (lambda model: model.given(LABELS).encode(X[:3]), "encode needs as many images as labels were given"),
        (
            lambda model: model.given(LABELS).decode(torch.zeros(10, 3)),
            "decode needs as many codes as labels were given",
        ),
        (lambda model: model.given(LABELS).sample(3), "sample needs one label, or 3 for as many images, got 5"),
        (lambda model: model.given(3), "from 0 to 2, got 3 to 3"),
        (lambda model: model.given(torch.tensor([0, -1])), "from 0 to 2, got -1 to 0"),
        (lambda model: model.given(torch.tensor([0.5])), "got torch.float32 of shape (1,)"),
        (lambda model: model.given(torch.zeros(2, 2).long()), "got torch.int64 of shape (2, 2)"),
    ],
)
def test_a_mistake_with_labels_is_one_sentence(call: Callable[[ConditionalVAE], Any], said: str) -> None:
    with pytest.raises(ImageError) as raised:
        call(small())
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


# training ------------------------------------------------------------------------------------------------------------


def test_the_number_of_labels_and_their_frequencies_come_from_the_data(train: Train) -> None:
    run = train("run", "model=conditional_vae", "model.prior=conditional")
    model = vaezoo.load(run.checkpoint("last"))
    assert run.config.model.classes == model.hparams["classes"] == 10
    data = ImageDataModule(source="digits", image_size=16, channels=1, val_size=297, test_size=300, limit=128)
    counts = torch.bincount(data.labels("train"), minlength=10)
    torch.testing.assert_close(model.label_frequency, counts / 128)
    assert len(data.labels("train")) == 128
    assert run.summary["given_label"]
    assert "elbo" not in run.summary["test"]
    elbos = {row["step"]: row["val/elbo_given_label"] for row in run.metrics if "val/elbo_given_label" in row}
    best = torch.load(run.checkpoint("best"), weights_only=True)["global_step"]
    assert best == max(elbos, key=lambda step: elbos[step])


def test_a_run_whose_labels_were_counted_is_the_same_run_when_it_is_asked_for_again(
    train: Train, program: Program, tmp_path: Path
) -> None:
    train("run", "model=conditional_vae")
    again = ["model.widths=[16]", "trainer.max_epochs=2", "callbacks=none", "data.limit=128", "evaluation=none"]
    code, printed = program("train", "resume=auto", f"run_dir={tmp_path / 'run'}", "model=conditional_vae", *again)
    assert code == 0, printed
    assert "nothing to resume" in printed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["data=sprites", "data.limit=64"], "needs one label for each image, and sprites has 5; choose data"),
        (["data=sprites", "data.limit=64", "model.classes=3"], "needs one label for each image, and sprites has 5"),
        (["model.classes=9"], "model.classes=9 is too few for digits, which has 10 labels; set model.classes=null"),
        (["model.classes=0"], "model.classes must be at least 1"),
        (["model.prior=vamp"], "model.prior=vamp needs images without their labels to start from"),
        (["model.prior=mixture"], "model.prior=mixture needs images without their labels to start from"),
    ],
)
def test_what_cannot_be_is_refused_before_training(
    settings: list[str], said: str, program: Program, tmp_path: Path
) -> None:
    usual = ["callbacks=none", "evaluation=none", "trainer.max_epochs=1", "model.widths=[8]"]
    code, printed = program("train", "model=conditional_vae", f"run_dir={tmp_path / 'run'}", *usual, *settings)
    assert code == 1
    assert said in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_images_without_labels_are_refused_before_training(program: Program, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(30):
        Image.fromarray(random.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / "images" / f"{number}.png")
    settings = ["data=image_folder", f"data.root={tmp_path / 'images'}", "data.image_size=8", "data.channels=1"]
    settings += ["data.val_size=8", "data.test_size=8", "data.num_workers=0"]
    code, printed = program("train", "model=conditional_vae", f"run_dir={tmp_path / 'run'}", *settings)
    assert code == 1
    assert printed.startswith("error: ConditionalVAE needs a label for each image, and image_folder has none; choose")
    assert printed.count("\n") == 1
    assert not (tmp_path / "run").exists()


def fit(y: Tensor) -> None:
    trainer = vaezoo_trainer()
    x = torch.rand(len(y), 1, 8, 8)
    trainer.fit(small().train(), DataLoader(TensorDataset(x, y), batch_size=4))


def vaezoo_trainer() -> Any:
    import lightning.pytorch as L

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)


@pytest.mark.filterwarnings("ignore")
def test_a_loader_of_other_labels_stops_training() -> None:
    fit(torch.arange(8) % 3)
    with pytest.raises(
        ConfigError, match=r"one label for each image of a batch \(x, y\), got labels of shape \(4, 2\)"
    ):
        fit(torch.zeros(8, 2, dtype=torch.int64))
    with pytest.raises(NonFiniteLossError):  # without waiting for the device in every step
        fit(torch.full((8,), 3))
    with pytest.raises(ConfigError, match="got a batch without labels"):
        small().inputs((X,))


@pytest.mark.filterwarnings("ignore")
def test_predictions_are_given_the_labels_of_their_batch() -> None:
    model = small()
    (found,) = vaezoo_trainer().predict(model, DataLoader(TensorDataset(X, LABELS), batch_size=5))
    torch.testing.assert_close(found.reconstruction, model.given(LABELS).reconstruct(X))

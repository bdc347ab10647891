"""Operations and sizes equal counts by hand."""

from collections.abc import Callable

import torch

from vaezoo.evaluation import cost
from vaezoo.evaluation.references import PCA
from vaezoo.models import Autoencoder

Make = Callable[..., Autoencoder]


def test_fully_connected_layers_cost_two_operations_a_weight(make_model: Make) -> None:
    settings = ["model.likelihood=bernoulli", "model.widths=[20]", "model.latent_dim=3"]
    model = make_model("vae", *settings, image_shape=[1, 8, 8])
    by_hand = 2 * (64 * 20 + 20 * 6 + 3 * 20 + 20 * 64)
    assert cost.flops_per_image(model) == by_hand
    assert cost.count_parameters(model) == by_hand // 2 + (20 + 6 + 20 + 64)


def test_convolutions_cost_two_operations_a_weight_and_position(make_model: Make) -> None:
    model = make_model("conv_vae", "model.widths=[5]", "model.latent_dim=3", image_shape=[2, 8, 8])
    convolution = 2 * 4 * 4 * 5 * (4 * 4)  # channels in, kernel, channels out, positions
    dense = 80 * 256 + 256 * 6 + 3 * 256 + 256 * 80
    transposed = 5 * 4 * 4 * 2 * (4 * 4)  # each position in gives a kernel's worth out
    assert cost.flops_per_image(model) == 2 * (convolution + dense + transposed)


def test_counting_leaves_the_model_as_it_was(make_model: Make) -> None:
    model = make_model("vae").train()
    before = torch.get_rng_state()
    cost.flops_per_image(model)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(before, torch.get_rng_state())


def test_a_code_takes_32_bits_a_dimension(make_model: Make) -> None:
    assert make_model("ae", "model.latent_dim=7").code_bits == 224


def test_pca_has_a_cost_too() -> None:
    pca = PCA(torch.rand(20, 1, 4, 4), latent_dim=3)
    assert cost.flops_per_image(pca) == 2 * (16 * 3 + 3 * 16)
    assert pca.code_bits == 96
    assert cost.count_parameters(pca) == 0

"""Networks fit any image, and the standard one is the standard one."""

import pytest
import torch
from torch import nn

from vaezoo.config.choices import NETWORKS
from vaezoo.config.errors import ConfigError
from vaezoo.models import VAE
from vaezoo.nn.networks import ACTIVATIONS, make_networks, make_spatial_networks


def parameters(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 9, 31), (2, 28, 28), (3, 50, 33), (1, 64, 64), (4, 17, 8)])
def test_every_network_takes_any_image_and_gives_its_shape(network: str, image_shape: tuple[int, int, int]) -> None:
    encoder, decoder = make_networks(network, image_shape, latent_dim=3, features=6)
    assert encoder(torch.rand(2, *image_shape)).shape == (2, 6)
    assert decoder(torch.randn(2, 3)).shape == (2, *image_shape)


def test_conv_at_64x64_is_the_network_of_locatello_et_al() -> None:
    encoder, decoder = make_networks("conv", (1, 64, 64), latent_dim=10, features=20)
    assert parameters(encoder) == 309_204
    assert parameters(decoder) == 381_313
    kernels = [m.kernel_size[0] for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert kernels == [4, 4, 2, 2]


@pytest.mark.parametrize(("size", "stages"), [(8, 1), (16, 2), (28, 3), (32, 3), (64, 4), (128, 5)])
def test_conv_scales_its_depth_with_the_image(size: int, stages: int) -> None:
    encoder, _ = make_networks("conv", (1, size, size), latent_dim=10, features=20)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in encoder.modules()) == stages


@pytest.mark.parametrize("network", NETWORKS)
def test_widths_are_what_was_asked_for(network: str) -> None:
    encoder, decoder = make_networks(network, (1, 16, 16), latent_dim=3, features=6, widths=[5, 7])
    kind = torch.nn.Linear if network == "mlp" else torch.nn.Conv2d
    sizes = [m.out_features if network == "mlp" else m.out_channels for m in encoder.modules() if isinstance(m, kind)]
    assert {5, 7} <= set(sizes)
    assert decoder(torch.randn(1, 3)).shape == (1, 1, 16, 16)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_follows_each_hidden_layer_of_an_mlp(name: str) -> None:
    model = VAE(image_shape=(1, 8, 8), widths=[5, 7], network_options={"activation": name})
    for network in (model.encoder, model.decoder):
        layers = [module for module in network if isinstance(module, (nn.Linear, *ACTIVATIONS.values()))]
        assert [type(layer) for layer in layers] == [nn.Linear, ACTIVATIONS[name]] * 2 + [nn.Linear]


def test_an_mlp_without_hidden_layers_is_linear() -> None:
    encoder, decoder = make_networks("mlp", (1, 8, 8), latent_dim=3, features=6, widths=[])
    assert parameters(encoder, decoder) == (64 * 6 + 6) + (3 * 64 + 64)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_weight_has_a_gradient(network: str) -> None:
    encoder, decoder = make_networks(network, (3, 12, 20), latent_dim=4, features=4)
    decoder(encoder(torch.rand(2, 3, 12, 20))).square().sum().backward()
    for module in (encoder, decoder):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_an_image_is_coded_alike_alone_and_in_a_batch(network: str) -> None:
    encoder, _ = make_networks(network, (1, 16, 16), latent_dim=4, features=4)
    x = torch.rand(5, 1, 16, 16)
    torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]))


@pytest.mark.parametrize(
    ("network", "image_shape", "widths", "message"),
    [
        ("cnn", (1, 16, 16), None, "model.network must be one of mlp, conv, resnet, got 'cnn'"),
        ("mlp", (1, 7, 16), None, "at least 8x8 pixels, got 7x16"),
        ("conv", (1, 16, 16), [8] * 5, "conv 5 stages, each of which halves the image; 16x16 pixels allow 1 to 4"),
        ("resnet", (1, 16, 16), [8] * 5, "resnet 5 stages"),
        ("conv", (1, 16, 16), [], "conv 0 stages"),
        ("mlp", (1, 16, 16), [0], "each of model.widths must be at least 1, got 0"),
    ],
)
def test_an_impossible_network_is_refused(
    network: str, image_shape: tuple[int, int, int], widths: list[int] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_networks(network, image_shape, latent_dim=3, features=3, widths=widths)


def test_residual_networks_keep_channels_together_in_memory() -> None:
    for network in make_networks("resnet", (3, 32, 32), latent_dim=4, features=8):
        convolutions = [
            module for module in network.modules() if isinstance(module, torch.nn.Conv2d) and module.in_channels > 3
        ]
        assert convolutions
        assert all(module.weight.is_contiguous(memory_format=torch.channels_last) for module in convolutions)


def test_a_seed_gives_the_weights_that_it_always_gave() -> None:
    """Old checkpoints and runs depend on the names of the parameters, and on the order in which they are drawn."""
    torch.manual_seed(0)
    encoder, decoder = make_networks("conv", (1, 8, 8), latent_dim=3, features=6)
    drawn_next = torch.rand(1)
    torch.manual_seed(0)
    down, up = nn.Conv2d(1, 32, 4), nn.ConvTranspose2d(32, 1, 4)
    inner = [nn.Linear(512, 256), nn.Linear(256, 6), nn.Linear(3, 256), nn.Linear(256, 512)]
    expected = {"encoder.1": down, "encoder.4": inner[0], "encoder.6": inner[1]}
    expected |= {"decoder.0": inner[2], "decoder.2": inner[3], "decoder.5": up}
    for layer in expected.values():
        nn.init.xavier_uniform_(layer.weight)
    found = nn.ModuleDict({"encoder": encoder, "decoder": decoder}).state_dict()
    assert list(found) == [f"{name}.{kind}" for name in expected for kind in ("weight", "bias")]
    for name, layer in expected.items():
        assert torch.equal(found[f"{name}.weight"], layer.weight)
        assert not found[f"{name}.bias"].any()
    assert torch.equal(drawn_next, torch.rand(1))


# spatial codes -------------------------------------------------------------------------------------------------------

GRIDS = {(1, 8, 8): (4, 4), (3, 9, 31): (5, 16), (1, 28, 28): (7, 7), (3, 32, 32): (8, 8), (1, 64, 64): (8, 8)}


@pytest.mark.parametrize("network", ["conv", "resnet"])
@pytest.mark.parametrize("image_shape", GRIDS)
def test_a_spatial_code_has_about_eight_positions_a_side(network: str, image_shape: tuple[int, int, int]) -> None:
    encoder, decoder, code_shape = make_spatial_networks(network, image_shape, channels=3, features=6)
    assert code_shape == (3, *GRIDS[image_shape])
    assert encoder(torch.rand(2, *image_shape)).shape == (2, 6, *GRIDS[image_shape])
    assert decoder(torch.randn(2, *code_shape)).shape == (2, *image_shape)


@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_spatial_networks_have_the_stages_of_flat_ones(network: str) -> None:
    """Only the joins differ: a 1x1 and a 3x3 convolution instead of fully connected layers."""

    def convolutions(*networks: nn.Module) -> list[torch.Size]:
        return [p.shape for net in networks for p in net.parameters() if p.ndim == 4]

    flat = make_networks(network, (3, 50, 33), 5, 10, widths=[8, 16])
    encoder, decoder, code_shape = make_spatial_networks(network, (3, 50, 33), 5, 10, widths=[8, 16])
    assert code_shape == (5, 13, 9)
    joins = [torch.Size([10, 16, 1, 1]), torch.Size([16, 5, 3, 3])]
    assert convolutions(encoder, decoder) == [*convolutions(flat[0]), *joins, *convolutions(flat[1])]
    assert not any(isinstance(module, nn.Linear) for net in (encoder, decoder) for module in net.modules())


def test_a_position_sees_its_neighbourhood_only() -> None:
    """True of conv; group norm of resnet takes its statistics from the whole image."""
    encoder, _, _ = make_spatial_networks("conv", (1, 32, 32), channels=2, features=2)
    x = torch.rand(1, 1, 32, 32)
    other = x.clone()
    other[..., :4, :4] = 0
    changed = (encoder(x) != encoder(other)).any(1)[0]
    assert changed[0, 0]
    assert not changed[2:, 2:].any()


@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_every_weight_of_spatial_networks_has_a_gradient(network: str) -> None:
    encoder, decoder, _ = make_spatial_networks(network, (3, 12, 20), channels=4, features=4)
    decoder(encoder(torch.rand(2, 3, 12, 20))).square().sum().backward()
    for module in (encoder, decoder):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_spatial_residual_networks_keep_channels_together_in_memory() -> None:
    encoder, decoder, _ = make_spatial_networks("resnet", (3, 32, 32), channels=4, features=8)
    weights = [p for net in (encoder, decoder) for p in net.parameters() if p.ndim == 4 and p.shape[1] > 3]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.mark.parametrize(
    ("network", "channels", "widths", "message"),
    [
        ("cnn", 3, None, "model.network must be one of mlp, conv, resnet, got 'cnn'"),
        (
            "mlp",
            3,
            None,
            "model.network=mlp has no grid of positions, which a spatial code needs; choose conv or resnet",
        ),
        ("conv", 3, [8] * 5, "conv 5 stages, each of which halves the image; 16x16 pixels allow 1 to 4"),
        ("conv", 2**40, None, "of memory; choose fewer channels of the code"),
    ],
)
def test_an_impossible_spatial_network_is_refused(
    network: str, channels: int, widths: list[int] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_spatial_networks(network, (1, 16, 16), channels, features=3, widths=widths)

"""Models trained on a bound have the gradients of that bound, for each of their parts."""

from collections.abc import Callable

import torch

from vaezoo.models import Autoencoder

Make = Callable[..., Autoencoder]


def gradients(model: Autoencoder, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The objective (B,) and the gradients of its mean, by name of the parameter."""
    torch.manual_seed(5)
    model.zero_grad()
    objective = model.objective(model.loss_terms(x), model.weights())
    objective.mean().backward()
    return objective.detach(), {
        name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None
    }


def test_piwae_trains_the_decoder_on_iwae_and_the_encoder_on_miwae(make_model: Make) -> None:
    """A learned prior goes with the decoder."""
    x, settings = torch.rand(4, 1, 16, 16).double(), ("model.prior=mixture", "model.prior_options={components: 3}")
    options = {
        "piwae": "model.bound_options={groups: 3, samples: 4}",
        "miwae": "model.bound_options={groups: 3, samples: 4}",
        "iwae": "model.bound_options={samples: 12}",
    }
    models = {
        name: make_model("vae", f"model.bound={name}", words, *settings).double() for name, words in options.items()
    }
    for model in models.values():
        model.load_state_dict(models["piwae"].state_dict())
    (value, found), (_, miwae), (bound, iwae) = (gradients(model, x) for model in models.values())
    torch.testing.assert_close(value, bound)
    for name in found:
        torch.testing.assert_close(found[name], (miwae if name.startswith("encoder.") else iwae)[name])
    assert not torch.allclose(miwae["decoder.0.weight"], iwae["decoder.0.weight"])


def test_sticking_the_landing_changes_the_gradient_of_the_encoder_only(make_model: Make) -> None:
    x = torch.rand(4, 1, 16, 16).double()
    plain = make_model("vae", "model.bound=iwae", "model.bound_options={samples: 1, estimator: plain}").double()
    stl = make_model("vae", "model.bound_options={estimator: stl}").double()
    stl.load_state_dict(plain.state_dict())
    (value, found), (same, wanted) = gradients(stl, x), gradients(plain, x)
    torch.testing.assert_close(value, same)
    for name in found:
        if not name.startswith("encoder."):
            torch.testing.assert_close(found[name], wanted[name])
        else:
            assert not torch.allclose(found[name], wanted[name]), name

"""What is printed before and after training."""

import pytest

from vaezoo.commands.console import objective_lines
from vaezoo.models import BetaVAE


@pytest.mark.parametrize(("beta", "cost"), [(1.0, "1 nat of recon"), (4.0, "4 nats of recon")])
def test_the_weight_of_the_kl_is_explained_in_a_grammatical_sentence(beta: float, cost: str) -> None:
    model = BetaVAE(beta=beta, image_shape=[1, 8, 8], latent_dim=2, network="mlp")
    assert f"summed over 2 dimensions, costs as much as {cost}, summed over 64 pixels" in objective_lines(model)[1]

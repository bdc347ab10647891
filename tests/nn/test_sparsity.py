"""Sparsity is measured as recorded, and the largest entries are kept."""

import torch

from tests.zoo_vectors import vector
from vaezoo.nn.sparsity import bernoulli_kl, keep_largest


def test_the_divergence_is_that_of_the_recorded_case() -> None:
    given, value = vector("sparse_penalties")
    torch.testing.assert_close(
        bernoulli_kl(given["a"], given["rho"]), torch.tensor(value["kl"], dtype=torch.double), rtol=1e-10, atol=0
    )
    torch.testing.assert_close(
        given["a"].abs().sum(1).mean(), torch.tensor(value["l1_of_images"], dtype=torch.double), rtol=1e-10, atol=0
    )


def test_the_divergence_is_0_at_the_target_and_finite_at_the_ends() -> None:
    assert bernoulli_kl(torch.full((4, 3), 0.05), 0.05).item() == 0
    for end in (0.0, 1.0):
        activations = torch.full((1, 2), end, requires_grad=True)
        found = bernoulli_kl(activations, 0.05)
        found.backward()
        assert found.isfinite()
        assert activations.grad is not None
        assert activations.grad.isfinite().all()


def test_the_largest_by_magnitude_are_kept() -> None:
    code = torch.tensor([[3.0, -4.0, 1.0, 2.0], [0.1, 0.2, -0.3, 0.0]], requires_grad=True)
    kept = keep_largest(code, 2)
    assert kept.tolist() == [[3.0, -4.0, 0.0, 0.0], [0.0, code[1, 1].item(), code[1, 2].item(), 0.0]]
    assert torch.equal(keep_largest(kept, 2), kept)
    assert torch.equal(keep_largest(code, 4), code)
    kept.sum().backward()
    assert code.grad is not None
    assert code.grad.tolist() == [[1, 1, 0, 0], [0, 1, 1, 0]]

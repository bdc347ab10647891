"""The objective of every model: a variant's own, and terms that are added by name, each with its weight."""

from typing import Any

from torch import Tensor

from vaezoo.nn.penalties.base import Encoded, Penalty
from vaezoo.nn.posteriors.base import Posterior
from vaezoo.nn.priors.base import Prior
from vaezoo.training.module import Loop
from vaezoo.training.terms import Terms, Weights


class Objective(Loop):
    """Adds terms to the objective of a variant, which implements ``main_objective`` and ``main_formula``."""

    added = ("penalty", "perceptual")
    """Names of the parts whose terms are added if the model has them, in the order of the formula."""

    @property
    def added_terms(self) -> tuple[Penalty, ...]:
        """The parts whose terms are added; no ``super().added_terms``, which compiled steps cannot call."""
        parts = [getattr(self, name, None) for name in self.added]
        return tuple([part for part in parts if part is not None])

    def read_weights(self) -> None:
        """Read the pretrained weights that the objective needs; ConfigError if this machine does not have them."""
        for part in self.added_terms:
            part.read_weights()

    def setup(self, stage: str) -> None:
        self.read_weights()
        super().setup(stage)

    def penalise(
        self,
        terms: Terms,
        x: Tensor,
        outputs: Tensor,
        code: Tensor,
        posterior: Posterior | None = None,
        prior: Prior | None = None,
    ) -> None:
        """Add the terms of images, given their codes (B, D) and what the decoder made of these, and critics' losses.

        ``outputs`` (B, C, H, W) are those that ``recon`` is computed from, so that decoded pixels cost no second pass.
        """
        if not self.added_terms:
            return
        pixels = self.likelihood.mean(outputs) if any(part.needs_pixels for part in self.added_terms) else None
        seen = Encoded(x, code, posterior, prior, self.train_images, self.encode, pixels)
        for part in self.added_terms:
            terms.penalties[part.label], critic = part(seen)
            terms.critic = critic if terms.critic is None else terms.critic if critic is None else terms.critic + critic
            terms.batch_statistics |= {part.label} if part.is_batch_statistic else set()
            terms.unbiased_statistics |= {part.label} if part.is_unbiased_statistic else set()

    def objective(self, terms: Terms, weights: Weights) -> Tensor:
        loss = self.main_objective(terms, weights)
        for part in self.added_terms:
            loss = loss + part.weight * terms.penalties[part.label]
        return loss

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        """The objective without the terms that are added, in nats: (B,)."""
        raise NotImplementedError

    def formula(self) -> str:
        added = "".join(f" + {part.formula()}" for part in self.added_terms)
        return self.main_formula() + added + self.formula_of_corruption()

    def main_formula(self) -> str:
        """The objective without the terms that are added, as text."""
        raise NotImplementedError

    def formula_of_corruption(self) -> str:
        """A clause at the end of a formula that says what the encoder sees; empty without a corruption."""
        return "" if self.corruption is None else f", codes of {self.corruption.describe()}"

    @property
    def critics(self) -> tuple[str, ...]:  # type: ignore[override]
        """The critics of the parts that have one, by the names of these modules."""
        parts = [part for part in self.added_terms if part.critic_settings]
        return tuple(f"{name}.critic" for name, module in self.named_children() if module in parts)

    def critic_settings(self) -> dict[str, Any]:
        return next((dict(part.critic_settings) for part in self.added_terms if part.critic_settings), {})

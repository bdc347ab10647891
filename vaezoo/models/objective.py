"""The objective of every model: a variant's own, and terms that are added by name, each with its weight."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.nn.penalties.base import Encoded, Penalty
from vaezoo.nn.posteriors.base import Posterior
from vaezoo.nn.priors.base import Prior
from vaezoo.training.module import Loop
from vaezoo.training.terms import Terms, Weights


class Objective(Loop):
    """Adds terms to the objective of a variant, which implements ``main_objective`` and ``main_formula``."""

    decoder: nn.Module

    added = ("penalty", "perceptual", "discriminator")
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
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage != "predict" and hasattr(data, "examples"):
            for part in self.added_terms:
                part.learn(data.examples)

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
        fakes = self.fakes(code, prior)
        seen = Encoded(x, code, posterior, prior, self.train_images, self.encode, pixels, fakes)
        for part in self.added_terms:
            terms.penalties[part.label], critic = part(seen)
            terms.critic = critic if terms.critic is None else terms.critic if critic is None else terms.critic + critic
            terms.batch_statistics |= {part.label} if part.is_batch_statistic else set()
            terms.unbiased_statistics |= {part.label} if part.is_unbiased_statistic else set()

    def fakes(self, code: Tensor, prior: Prior | None) -> Tensor | None:
        """Decoded images that a discriminator sees instead of reconstructions: (B, D) -> (K B, C, H, W)."""
        return None

    def objective(self, terms: Terms, weights: Weights) -> Tensor:
        loss, of_pixels = self.main_objective(terms, weights), terms.recon
        for part in self.added_terms:
            weighted = part.weigh(terms.penalties[part.label], weights, of_pixels, self.decoder)
            loss = loss + weighted
            of_pixels = of_pixels + weighted if part.needs_pixels else of_pixels
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

    # critics ---------------------------------------------------------------------------------------------------------

    @property
    def critics(self) -> dict[str, dict[str, Any]]:  # type: ignore[override]
        """The critics of the parts that have one."""
        return {f"{name}.critic": part.critic_settings for name, part in self._with_critics()}

    def waiting_critics(self) -> list[str]:
        return [f"{name}.critic" for name, part in self._with_critics() if part.waits(self.global_step)]

    def _with_critics(self) -> list[tuple[str, Penalty]]:
        """The parts with a critic, by their names as submodules."""
        parts = [(name, getattr(self, name, None)) for name in self.added]
        return [(name, part) for name, part in parts if part is not None and part.critic_settings]

    def on_train_start(self) -> None:
        super().on_train_start()
        for part in self.added_terms:
            part.plan(self._steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["plans"] = {part.label: plan for part in self.added_terms if (plan := part.planned())}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        for part in self.added_terms:
            part.resume(checkpoint.get("plans", {}).get(part.label, {}))

    def weights(self) -> dict[str, float]:
        return {name: weight for part in self.added_terms for name, weight in part.weights(self.global_step).items()}

    def statistics(self) -> dict[str, Tensor]:
        return {name: value for part in self.added_terms for name, value in part.statistics().items()}

    def complaints(self, found: Mapping[str, Tensor]) -> dict[str, str]:
        of_parts = {part.label: part.complaint() for part in self.added_terms}
        return {name: sentence for name, sentence in of_parts.items() if sentence is not None}

    def explain_weights(self) -> list[str]:
        """Sentences on what the weights of the objective mean, for the head of a run."""
        return [line for part in self.added_terms for line in part.explain()]

    def compile_losses(self, mode: str | None = None) -> None:
        for part in self.added_terms:
            if reason := part.no_compile():
                raise ConfigError(f"compile={mode or 'true'} cannot compile a step: {reason}, or compile=false")
        super().compile_losses(mode)

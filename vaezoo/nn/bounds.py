"""Training bounds on log p(x): importance weights of the draws to what is minimised. They know no networks."""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vaezoo.config.choices import BOUNDS
from vaezoo.config.validation import at_least, create, within

OPTIONS = "model.bound_options"

Estimator = Literal["plain", "dreg"]


def combined_bound(log_weights: Tensor, share: float = 0.0) -> Tensor:
    """Lower bound on log p(x) from M groups of K draws, in nats: (M, K, B) -> (B,).

    ``log_weights`` are log p(x,z) - log q(z|x). With ``share`` 0 it is MIWAE, and IWAE if there is one group; with
    ``share`` 1 the ELBO; between them CIWAE (Burda et al., 2016; Rainforth et al., 2018).
    """
    importance = (log_weights.logsumexp(1) - math.log(log_weights.shape[1])).mean(0)
    return importance if share == 0 else share * log_weights.mean((0, 1)) + (1 - share) * importance


@torch.compiler.allow_in_graph
def doubly_reparametrised(log_weights: Tensor, code: Tensor, share: float = 0.0) -> Tensor:
    """``combined_bound`` with the DReG gradient: (M, K, B) and (M K, B, D) -> (B,). Tucker et al. (2019).

    The gradient that reaches ``code`` is weighted by the squares of the normalised weights, every other gradient by
    the weights themselves. ``log_weights`` must be computed from ``code``, with the parameters of q stopped in log q.
    The gradients of all uses of ``code`` are scaled, so other terms need the tensor that it was copied from
    (``code.view_as(code)``). RuntimeError if the weights were not computed from ``code``, or if torch.compile broke
    the graph in between.
    """
    # In the compiled graph as it is: torch.compile of 2.6 breaks the graph at a hook, and the hook is lost.
    if code.requires_grad:
        _require_one_graph(log_weights, code)
        factor = _dreg_factor(log_weights.detach(), share).flatten(0, 1)[..., None]
        code.register_hook(lambda gradient: gradient * factor)
    return combined_bound(log_weights, share)


def _dreg_factor(log_weights: Tensor, share: float) -> Tensor:
    """Factor from the plain gradient of each code to the DReG one: (M, K, B) -> (M, K, B)."""
    each, normalised = share / log_weights.shape[1], torch.softmax(log_weights, 1)
    plain = each + (1 - share) * normalised
    squared = each + (1 - share) * normalised.square()
    return squared / plain.clamp(min=torch.finfo(plain.dtype).tiny)


def _require_one_graph(log_weights: Tensor, code: Tensor) -> None:
    """RuntimeError if the gradient of the weights does not pass through ``code``; the nearest nodes come first."""
    waiting, seen = deque([log_weights.grad_fn]), set[Any]()
    while waiting:
        node = waiting.popleft()
        if node is None or node in seen:
            continue
        if node is code.grad_fn or getattr(node, "variable", None) is code:
            return
        seen.add(node)
        waiting.extend(before for before, _ in node.next_functions)
    raise RuntimeError(
        "the gradient of the weights does not pass through this code, so the DReG gradient would be wrong; pass the"
        " tensor that the weights were computed from, and if torch.compile broke the graph in between, set"
        " compile=false or model.bound_options.estimator=plain"
    )


class BoundTerms(NamedTuple):
    """What a bound is computed from, in nats, with S draws of the code of each image.

    ``recon`` and ``rate`` (B,) are -log p(x|z) and what the codes cost; ``log_weights`` (S, B) are
    log p(x, z) - log q(z|x), and ``code`` (S, B, D) are the draws. For a bound that splits, ``log_weights`` have
    gradients for decoder and prior only, and ``encoder_log_weights``, of the same values, for the encoder only.
    """

    recon: Tensor
    rate: Tensor
    log_weights: Tensor | None = None
    code: Tensor | None = None
    encoder_log_weights: Tensor | None = None


class Bound:
    """A lower bound on log p(x) and the loss that trains with it.

    ``samples`` is the number of draws per image. ``needs_weights``: the loss is computed from the importance weights of
    the draws. ``stops_posterior``: log q must be evaluated with the parameters of q stopped. ``splits``: the encoder
    has another objective than decoder and prior. ``changes_gradients``: those of other terms would change too if they
    were computed from the same decoder outputs. ``label`` is the name under which the bound is logged; None for the
    ELBO, which is always logged.
    """

    samples: int = 1
    needs_weights: bool = True
    stops_posterior: bool = False
    splits: bool = False
    changes_gradients: bool = False
    label: str | None = None

    def loss(self, terms: BoundTerms) -> Tensor:
        """What is minimised, in nats: (B,). ValueError if weights or codes are needed and missing."""
        raise NotImplementedError

    def value(self, log_weights: Tensor) -> Tensor:
        """The bound in nats, higher is better: (S, B) -> (B,)."""
        raise NotImplementedError

    def formula(self) -> str:
        """What is minimised, as text."""
        raise NotImplementedError

    def _given(self, log_weights: Tensor | None) -> Tensor:
        if log_weights is None:
            raise ValueError(f"{self.label or 'the ELBO'} needs the weights of {self.samples} draws, got None")
        return log_weights


class Elbo(Bound):
    """The evidence lower bound (Kingma and Welling, 2014).

    The estimator ``plain`` has the exact KL where there is one. ``stl`` ("sticking the landing"; Roeder et al., 2017)
    estimates the KL from the draw, with the parameters of q stopped in log q: at the exact posterior, the encoder's
    gradient is then zero rather than zero on average.
    """

    def __init__(self, *, estimator: Literal["plain", "stl"] = "plain") -> None:
        self.needs_weights = self.stops_posterior = estimator == "stl"

    def loss(self, terms: BoundTerms) -> Tensor:
        if not self.needs_weights:
            return terms.recon + terms.rate
        return -self.value(self._given(terms.log_weights))

    def value(self, log_weights: Tensor) -> Tensor:
        return log_weights.mean(0)

    def formula(self) -> str:
        return "-log w, with q's parameters stopped" if self.needs_weights else "recon + kl"


def _log_mean(draws: int) -> str:
    """Minus the logarithm of the mean weight of so many draws, as text."""
    if draws == 1:
        return "-log w"
    return f"-log (1/{draws}) (w1 {'+ ... ' if draws > 2 else ''}+ w{draws})"


class _ImportanceWeighted(Bound):
    """Bounds from ``groups`` of ``draws`` each; ConfigError for numbers below 1."""

    def __init__(self, label: str, groups: int, draws: int, share: float, estimator: Estimator) -> None:
        self.label = label
        self.groups, self.draws, self.share, self.estimator = groups, draws, share, estimator
        at_least(groups, 1, f"{OPTIONS}.groups")
        at_least(draws, 1, f"{OPTIONS}.samples")
        within(share, 0, 1, f"{OPTIONS}.share")
        self.samples = groups * draws
        self.stops_posterior = self.changes_gradients = estimator == "dreg"

    def loss(self, terms: BoundTerms) -> Tensor:
        if terms.log_weights is None or (terms.code is None and self.estimator == "dreg"):
            raise ValueError(f"{self.label} needs the weights and codes of {self.samples} draws, got None")
        if terms.code is None or self.estimator == "plain":
            return -self.value(terms.log_weights)
        return -doubly_reparametrised(self._grouped(terms.log_weights), terms.code, self.share)

    def value(self, log_weights: Tensor) -> Tensor:
        return combined_bound(self._grouped(log_weights), self.share)

    def _grouped(self, log_weights: Tensor) -> Tensor:
        return log_weights.unflatten(0, (self.groups, self.draws))

    def _with_estimator(self, text: str) -> str:
        return f"{text}, DReG gradient" if self.estimator == "dreg" else text

    def formula(self) -> str:
        return self._with_estimator(_log_mean(self.draws))


class Iwae(_ImportanceWeighted):
    """-log of the mean weight of ``samples`` draws (Burda et al., 2016)."""

    def __init__(self, *, samples: int = 5, estimator: Estimator = "plain") -> None:
        super().__init__(f"iwae_{samples}", 1, samples, 0.0, estimator)


class Miwae(_ImportanceWeighted):
    """The mean of the IWAE bounds of ``groups`` of ``samples`` draws each (Rainforth et al., 2018)."""

    def __init__(self, *, groups: int = 8, samples: int = 8, estimator: Estimator = "plain") -> None:
        super().__init__(f"miwae_{groups}x{samples}", groups, samples, 0.0, estimator)

    def formula(self) -> str:
        return self._with_estimator(f"mean over {self.groups} groups of {_log_mean(self.draws)}")


class Ciwae(_ImportanceWeighted):
    """``share`` of the ELBO and 1 - ``share`` of the IWAE bound of the same draws (Rainforth et al., 2018)."""

    def __init__(self, *, share: float = 0.05, samples: int = 64, estimator: Estimator = "plain") -> None:
        super().__init__(f"ciwae_{share:g}_{samples}", 1, samples, share, estimator)

    def formula(self) -> str:
        return self._with_estimator(f"-{self.share:g} mean log w - {1 - self.share:g} {_log_mean(self.draws)[1:]}")


class Piwae(_ImportanceWeighted):
    """The IWAE bound of all draws for decoder and prior, MIWAE's for the encoder (Rainforth et al., 2018).

    More draws improve the gradient of the decoder but not that of the encoder, which several smaller groups improve.
    """

    splits = True

    def __init__(self, *, groups: int = 8, samples: int = 8) -> None:
        super().__init__(f"piwae_{groups}x{samples}", groups, samples, 0.0, "plain")
        self.changes_gradients = True

    def loss(self, terms: BoundTerms) -> Tensor:
        of_rest = self.value(self._given(terms.log_weights))
        of_encoder = super().value(self._given(terms.encoder_log_weights))
        return of_encoder.detach() - of_encoder - of_rest

    def value(self, log_weights: Tensor) -> Tensor:
        return combined_bound(log_weights[None])

    def formula(self) -> str:
        together = _log_mean(self.samples)
        return f"{together}; for the encoder mean over {self.groups} groups of {_log_mean(self.draws)}"


_CLASSES: dict[str, type[Bound]] = dict(zip(BOUNDS, (Elbo, Iwae, Miwae, Ciwae, Piwae), strict=True))


def make_bound(name: str, options: Mapping[str, Any] | None = None) -> Bound:
    """The bound called ``name``, created with ``options``; ConfigError for an unknown name or option."""
    return create("model.bound", _CLASSES, name, options)

"""Priors p(z) over codes: the distributions, and the modules that evaluate them once per step."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vaezoo.config.choices import PRIORS
from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import at_least, check_arguments, parameters, within
from vaezoo.metrics.divergences import LOG_2PI, gaussian_log_prob
from vaezoo.nn.flows import Autoregressive, Coupling, check_hidden, pulled, pushed
from vaezoo.nn.spheres import log_area, on_sphere


class Prior(Protocol):
    """p(z), evaluated: all networks that it depends on have run, so that many codes can be scored against it."""

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats: (..., D) -> (...)."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws (count, D) on the device of the prior, whatever that of the generator."""

    @property
    def factorises(self) -> bool:
        """Whether the dimensions are independent, which dimension-wise KL divergences require."""

    def moments(self) -> tuple[Tensor, Tensor] | None:
        """Mean and variance, each (D,), of a Gaussian with independent dimensions; None for any other distribution."""

    def to(self, device: torch.device) -> "Prior":
        """The same distribution on another device."""


class StandardNormal(NamedTuple):
    """N(0, I) of ``dimensions`` dimensions."""

    dimensions: int
    device: torch.device

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats: (..., D) -> (...)."""
        return gaussian_log_prob(code, torch.zeros_like(code), torch.zeros_like(code)).sum(-1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D)."""
        return _normal((count, self.dimensions), self.device, generator)

    @property
    def factorises(self) -> bool:
        """True: the dimensions are independent."""
        return True

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean 0 and variance 1, each (D,)."""
        return torch.zeros(self.dimensions, device=self.device), torch.ones(self.dimensions, device=self.device)

    def to(self, device: torch.device) -> "StandardNormal":
        """The same distribution on another device."""
        return self._replace(device=device)


class Mixture(NamedTuple):
    """Mixture of C Gaussians with independent dimensions: mean and logvar (C, D), log_weight (C,) summing to 1."""

    mean: Tensor
    logvar: Tensor
    log_weight: Tensor

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats: (..., D) -> (...).

        The squares are expanded into matrix products, in double precision, so that memory does not grow with D.
        """
        wide = torch.float32 if code.device.type == "mps" else torch.float64  # mps has no float64
        z, mean, logvar = code.to(wide), self.mean.to(wide), self.logvar.to(wide)
        precision = torch.exp(-logvar)
        constant = (mean.square() * precision + logvar + LOG_2PI).sum(-1)
        squares = z.square() @ precision.T - 2 * z @ (mean * precision).T + constant
        return (self.log_weight.to(wide) - 0.5 * squares).logsumexp(-1).to(code.dtype)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D): a component by its weight, then a code from it."""
        device = self.mean.device if generator is None else generator.device
        weights = self.log_weight.exp().to(device)
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator).to(self.mean.device)
        noise = _normal((count, self.mean.shape[1]), self.mean.device, generator)
        return self.mean[chosen] + torch.exp(0.5 * self.logvar[chosen]) * noise

    @property
    def factorises(self) -> bool:
        """False, but for a single component."""
        return len(self.mean) == 1

    def moments(self) -> tuple[Tensor, Tensor] | None:
        """Mean and variance of a single component, each (D,); None for several."""
        return (self.mean[0], self.logvar[0].exp()) if len(self.mean) == 1 else None

    def to(self, device: torch.device) -> "Mixture":
        """The same distribution on another device."""
        return Mixture(*(part.to(device) for part in self))


class FlowedNormal(NamedTuple):
    """The density of f(u) with u ~ N(0, I), where f is the invertible ``steps`` one after another."""

    base: StandardNormal
    steps: nn.ModuleList

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats: (..., D) -> (...)."""
        before, log_det = pulled(self.steps, code)  # type: ignore[arg-type]
        return self.base.log_prob(before) + log_det

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D)."""
        return pushed(self.steps, self.base.sample(count, generator))[0]  # type: ignore[arg-type]

    @property
    def factorises(self) -> bool:
        """False: the dimensions depend on each other."""
        return False

    def moments(self) -> None:
        """None: it is no Gaussian."""
        return None

    def to(self, device: torch.device) -> "FlowedNormal":
        """The same distribution on another device."""
        return FlowedNormal(self.base.to(device), copy.deepcopy(self.steps).to(device))


class UniformOnSphere(NamedTuple):
    """The uniform distribution on the unit sphere in ``dimensions`` dimensions, a density on its surface."""

    dimensions: int
    device: torch.device

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats of codes on the sphere: (..., D) -> (...)."""
        return torch.full_like(code[..., 0], -log_area(self.dimensions))

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D)."""
        return on_sphere(_normal((count, self.dimensions), self.device, generator))

    @property
    def factorises(self) -> bool:
        """False: the squares of the coordinates add up to 1."""
        return False

    def moments(self) -> None:
        """None: it is no Gaussian."""
        return None

    def to(self, device: torch.device) -> "UniformOnSphere":
        """The same distribution on another device."""
        return self._replace(device=device)


class GaussianOfRows(NamedTuple):
    """A Gaussian with independent dimensions for each row of a batch, or a single one for all: mean and logvar (B, D).

    ``log_prob`` takes codes (..., B, D), or any if there is a single one.
    """

    mean: Tensor
    logvar: Tensor

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats, each code under the Gaussian of its row: (..., B, D) -> (..., B)."""
        return gaussian_log_prob(code, self.mean, self.logvar).sum(-1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D): one of each row, or all of a single one."""
        noise = _normal((count, self.mean.shape[1]), self.mean.device, generator)
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    @property
    def factorises(self) -> bool:
        """True: the dimensions of each row are independent."""
        return True

    def moments(self) -> tuple[Tensor, Tensor] | None:
        """Mean and variance of a single Gaussian, each (D,); None for several."""
        return (self.mean[0], self.logvar[0].exp()) if len(self.mean) == 1 else None

    def to(self, device: torch.device) -> "GaussianOfRows":
        """The same distributions on another device."""
        return GaussianOfRows(*(part.to(device) for part in self))


def _normal(size: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Standard normal draws on ``device``, drawn where the generator is."""
    if generator is None:  # torch.compile takes an unknown size only without one
        return torch.randn(size, device=device)
    return torch.randn(size, generator=generator, device=generator.device).to(device)


# modules -------------------------------------------------------------------------------------------------------------


class PriorModel(nn.Module):
    """Parameters of a prior. ``forward`` evaluates it, once per step, given the model's encoder.

    ``needs_moments`` marks priors made of posteriors, which must be diagonal Gaussians; ``is_spherical`` those of
    codes on the unit sphere; ``needs_labels`` those that are another distribution for each label, which ``given``
    returns instead of ``forward``.
    """

    needs_moments = False
    is_spherical = False
    needs_labels = False

    @property
    def wants_images(self) -> int:
        """Number of training images that ``start_from`` wants before the first step; 0 for none."""
        return 0

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> Prior:
        """The prior on ``device``; ``posterior`` maps images (B, C, H, W) to their posteriors."""
        raise NotImplementedError

    def given(self, labels: Tensor) -> Prior:
        """The prior of each row, given one-hot labels (B, classes)."""
        raise NotImplementedError

    def marginal(self, frequency: Tensor) -> Prior:
        """The prior over all labels, given their frequencies (classes,)."""
        raise NotImplementedError

    def start_from(self, images: Tensor, posterior: Callable[[Tensor], Any]) -> None:
        """Set parameters that start from training images."""

    def describe(self) -> str:
        """The prior as text."""
        raise NotImplementedError


class _Started(PriorModel):
    """A prior whose parameters start from training images, once in the life of a model."""

    started: Tensor

    def __init__(self, components: int) -> None:
        super().__init__()
        self.components = components
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @property
    def wants_images(self) -> int:
        """One image per component, until it has started."""
        return 0 if bool(self.started) else self.components

    @torch.no_grad()
    def start_from(self, images: Tensor, posterior: Callable[[Tensor], Any]) -> None:
        """Start one component at each image (B, C, H, W); images are used again if there are fewer."""
        self._start(images[torch.arange(self.components, device=images.device) % len(images)], posterior)
        self.started.fill_(True)

    def _start(self, images: Tensor, posterior: Callable[[Tensor], Any]) -> None:
        raise NotImplementedError


class Normal(PriorModel):
    """N(0, I)."""

    def __init__(self, *, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> StandardNormal:
        return StandardNormal(self.latent_dim, device)

    def describe(self) -> str:
        return "N(0, I)"


class Vamp(_Started):
    """VampPrior: the mean of the posteriors of learned pseudo-inputs (Tomczak and Welling, 2018).

    Pseudo-inputs are the sigmoid of parameters, which start at training images, and pass through the model's own
    encoder. Their posteriors must be diagonal Gaussians.
    """

    needs_moments = True
    MARGIN = 0.01
    """Distance of the first pseudo-pixels from 0 and 1, where the gradient of a sigmoid would vanish."""

    def __init__(self, *, image_shape: tuple[int, int, int], components: int = 500) -> None:
        within(components, 1, 2**20, "model.prior_options.components")
        super().__init__(components)
        self.pseudo_inputs = nn.Parameter(torch.empty(components, *image_shape).normal_(0, 1))

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> Mixture:
        mean, logvar = posterior(torch.sigmoid(self.pseudo_inputs)).moments()
        return Mixture(mean, logvar, mean.new_full((len(mean),), -math.log(len(mean))))

    def _start(self, images: Tensor, posterior: Callable[[Tensor], Any]) -> None:
        self.pseudo_inputs.copy_(torch.logit((1 - 2 * self.MARGIN) * images + self.MARGIN))

    def describe(self) -> str:
        return f"VampPrior with {self.components:,} pseudo-inputs"


class GaussianMixture(_Started):
    """Mixture of learned Gaussians, whose means start at the codes of training images (Dilokthanakul et al., 2016)."""

    LEAST_LOGVAR = -10.0

    def __init__(self, *, latent_dim: int, components: int = 100) -> None:
        within(components, 1, 2**20, "model.prior_options.components")
        super().__init__(components)
        self.mean = nn.Parameter(torch.empty(components, latent_dim).normal_(0, 1))
        self.logvar = nn.Parameter(torch.zeros(components, latent_dim))
        self.logit = nn.Parameter(torch.zeros(components))

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> Mixture:
        return Mixture(self.mean, self.logvar.clamp(min=self.LEAST_LOGVAR), self.logit.log_softmax(0))

    def _start(self, images: Tensor, posterior: Callable[[Tensor], Any]) -> None:
        self.mean.copy_(posterior(images).mean)

    def describe(self) -> str:
        return f"mixture of {self.components:,} Gaussians"


class Flow(PriorModel):
    """A normalising flow of N(0, I), which it is exactly before training (Chen et al., 2017).

    ``coupling`` (RealNVP; Dinh et al., 2017) is fast in both directions; ``maf`` (Papamakarios et al., 2017) samples in
    as many passes as there are dimensions. ConfigError for numbers below 1, or a coupling of one dimension.
    """

    def __init__(
        self, *, latent_dim: int, steps: int = 6, hidden: int = 64, kind: Literal["coupling", "maf"] = "coupling"
    ) -> None:
        super().__init__()
        within(steps, 1, 2**10, "model.prior_options.steps")
        within(hidden, 1, 2**20, "model.prior_options.hidden")
        self.latent_dim, self.kind = latent_dim, kind
        if kind == "coupling":
            if latent_dim < 2:
                raise ConfigError(
                    "model.prior_options.kind=coupling needs a code of at least 2 dimensions, got 1; set it to maf"
                )
            made: Any = [Coupling(latent_dim, hidden, moves_first=step % 2 == 1) for step in range(steps)]
        else:
            check_hidden(hidden, latent_dim, "model.prior_options.hidden")
            made = [Autoregressive(latent_dim, hidden, reverse=step % 2 == 1) for step in range(steps)]
        self.steps = nn.ModuleList(made)

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> FlowedNormal:
        return FlowedNormal(StandardNormal(self.latent_dim, device), self.steps)

    def describe(self) -> str:
        return f"flow of N(0, I) in {len(self.steps)} {self.kind} steps"


class UniformSphere(PriorModel):
    """The uniform distribution on the unit sphere (Davidson et al., 2018); ConfigError for a single dimension."""

    is_spherical = True

    def __init__(self, *, latent_dim: int) -> None:
        super().__init__()
        at_least(latent_dim, 2, "model.latent_dim of codes on a sphere")
        self.latent_dim = latent_dim

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> UniformOnSphere:
        return UniformOnSphere(self.latent_dim, device)

    def describe(self) -> str:
        return f"uniform on the unit sphere in {self.latent_dim} dimensions"


class Conditional(PriorModel):
    """A learned Gaussian with independent dimensions for each label, p(z|y) (Sohn et al., 2015). All start at N(0, I).

    ConfigError without ``classes``, the number of labels, which only a model with labels has.
    """

    needs_labels = True
    LEAST_LOGVAR = -10.0

    def __init__(self, *, latent_dim: int, classes: int | None = None) -> None:
        super().__init__()
        if classes is None:
            raise ConfigError(
                "model.prior=conditional needs a label for each image, which this model does not take; choose a"
                " conditional model, or model.prior=normal"
            )
        self.mean = nn.Parameter(torch.zeros(classes, latent_dim))
        self.logvar = nn.Parameter(torch.zeros(classes, latent_dim))

    def given(self, labels: Tensor) -> GaussianOfRows:
        return GaussianOfRows(labels @ self.mean, labels @ self.logvar.clamp(min=self.LEAST_LOGVAR))

    def marginal(self, frequency: Tensor) -> Mixture:
        return Mixture(self.mean, self.logvar.clamp(min=self.LEAST_LOGVAR), frequency.log())

    def describe(self) -> str:
        return f"a Gaussian for each of {len(self.mean):,} labels"


_CLASSES: dict[str, type[PriorModel]] = dict(
    zip(PRIORS, (Normal, Vamp, GaussianMixture, Flow, UniformSphere, Conditional), strict=True)
)


def make_prior(
    name: str,
    image_shape: tuple[int, int, int],
    latent_dim: int,
    options: Mapping[str, Any] | None = None,
    classes: int | None = None,
) -> PriorModel:
    """The prior called ``name``, created with ``options``; ConfigError for an unknown name or option.

    ``classes`` is the number of labels of a model that takes them.
    """
    if name not in _CLASSES:
        raise ConfigError(f"model.prior must be one of {', '.join(PRIORS)}, got {name!r}")
    options = dict(options or {})
    sizes: dict[str, Any] = {"image_shape": image_shape, "latent_dim": latent_dim, "classes": classes}
    cls = _CLASSES[name]
    check_arguments(cls, options, key="model.prior_options", extra=tuple(sizes))
    taken = parameters(cls)
    return cls(**{key: value for key, value in sizes.items() if key in taken}, **options)

"""What every number means: unit, direction and estimator, from which tables, tooltips and documentation are made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One number of an evaluation, told once."""

    name: str
    unit: str
    better: Literal["higher", "lower", ""]
    text: str
    section: str

    @property
    def arrow(self) -> str:
        """Which way is better, for a table's head."""
        return {"higher": "↑", "lower": "↓", "": ""}[self.better]


def _section(section: str, *rows: tuple[str, str, Literal["higher", "lower", ""], str]) -> list[Metric]:
    return [Metric(name, unit, better, text, section) for name, unit, better, text in rows]


NATS = "nats per image"

_LIKELIHOOD = _section(
    "likelihood",
    ("elbo", NATS, "higher", "Evidence lower bound at beta = 1, from one draw of the code for each test image."),
    ("recon", NATS, "", "Distortion: -log p(x|z), summed over pixels, from one draw of the code; an AE draws none."),
    ("kl", NATS, "", "Rate: divergence of the posterior from the prior, summed over latent dimensions, exact."),
    ("iw_bound", NATS, "higher", "Importance-weighted bound on log p(x) from K draws (Burda et al., 2016)."),
    ("iw_ess", "draws", "higher", "Median over images of how many of the K draws really count, (sum w)² / sum w²."),
    ("log_likelihood", NATS, "higher", "Exact log p(x) of the reference row pPCA (Tipping and Bishop, 1999)."),
    ("bits_per_dim", "bits", "lower", "-ELBO by pixel and channel; for discrete likelihoods on data that suit them."),
)

_RECONSTRUCTION = _section(
    "reconstruction",
    (
        "mse",
        "squared pixel",
        "lower",
        "Mean squared error of reconstructions from the posterior mean, pixels in [0, 1].",
    ),
    ("psnr", "dB", "higher", "Peak signal-to-noise ratio: mean over images, not of the mean error."),
    ("ssim", "", "higher", "Structural similarity (Wang et al., 2004), Gaussian window, mean over images."),
)

SOURCES = {
    "prior": "pixel means decoded from the prior",
    "mixture": "pixel means decoded from a Gaussian mixture fitted to training codes (Ghosh et al., 2020)",
    "reconstruction": "reconstructions of test images",
}
FEATURES = {
    "classifier": "features of a small classifier trained on this data set",
    "inception": "features of Inception-v3",
}
_COMPARISONS: tuple[tuple[str, str, Literal["higher", "lower"], str], ...] = (
    ("fd", "", "lower", "Frechet distance (Heusel et al., 2017) of {source} from the test set, in {features}."),
    (
        "kd",
        "×10³",
        "lower",
        "Kernel distance, unbiased (Binkowski et al., 2018), of {source} from the test set, in {features}.",
    ),
    (
        "precision",
        "share",
        "higher",
        "Share of {source} inside the test set's 3-nearest-neighbour balls, in {features}.",
    ),
    (
        "recall",
        "share",
        "higher",
        "Share of the test set inside the 3-nearest-neighbour balls of {source}, in {features}.",
    ),
    (
        "density",
        "",
        "higher",
        "How many 5-nearest-neighbour balls of the test set hold {source}, over 5, in {features}.",
    ),
    (
        "coverage",
        "share",
        "higher",
        "Share of the test set's 5-nearest-neighbour balls that hold one of {source}, in {features}.",
    ),
)

_GENERATION = _section(
    "generation",
    *(
        (f"{source}_{short}_{features}", unit, better, text.format(source=SOURCES[source], features=FEATURES[features]))
        for features in FEATURES
        for source in SOURCES
        for short, unit, better, text in _COMPARISONS
    ),
    *(
        (f"floor_{short}_{features}", unit, "", text.format(source="training images", features=FEATURES[features]))
        for features in FEATURES
        for short, unit, _, text in _COMPARISONS[:2]
    ),
)

_INTERPOLATION = _section(
    "interpolation",
    (
        "interpolation_fd_endpoints",
        "",
        "lower",
        "Frechet distance of as many reconstructions of the paths' ends: what midpoints can reach at best.",
    ),
    (
        "interpolation_kd_endpoints",
        "×10³",
        "lower",
        "Kernel distance of as many reconstructions of the paths' ends: what midpoints can reach at best.",
    ),
    *(
        row
        for method in ("linear", "spherical")
        for row in (
            (
                f"interpolation_fd_{method}",
                "",
                "lower",
                f"Frechet distance of midpoints of {method} paths from the test set, in {FEATURES['classifier']}.",
            ),
            (
                f"interpolation_kd_{method}",
                "×10³",
                "lower",
                f"Kernel distance of midpoints of {method} paths from the test set, in {FEATURES['classifier']}.",
            ),
            (
                f"step_ratio_pixels_{method}",
                "",
                "lower",
                f"Largest over mean step of decoded {method} paths between test images, in pixels: 1 is an even pace.",
            ),
            (
                f"step_ratio_features_{method}",
                "",
                "lower",
                f"Largest over mean step of decoded {method} paths, in {FEATURES['classifier']}: 1 is an even pace.",
            ),
        )
    ),
)

_LATENT = _section(
    "latent space",
    (
        "active_units",
        "dimensions",
        "",
        "Dimensions whose posterior mean varies over images by more than 0.01 (Burda et al.).",
    ),
    (
        "mutual_information",
        "nats",
        "",
        "Of images and codes in the mixture of n posteriors; at most log n (Chen et al.).",
    ),
    ("total_correlation", "nats", "", "Dependence of dimensions in the same mixture; large where KL is above log n."),
    ("dimensionwise_kl", "nats", "", "Divergence of each dimension of the same mixture from the prior, summed."),
    ("aggregate_kl", "nats", "", "Distance of the same mixture from the prior: total correlation + dimension-wise KL."),
    ("probe_accuracy", "share", "higher", "Labels told from codes by multinomial logistic regression."),
    ("knn_accuracy", "share", "higher", "Labels told from codes by the 20 nearest training codes, Euclidean."),
)

_DISENTANGLEMENT = _section(
    "disentanglement",
    (
        "mig",
        "share",
        "higher",
        "Mutual information gap, 20 bins (Chen et al., 2018). Perfect codes of sprites get 0.90.",
    ),
    (
        "sap",
        "share",
        "higher",
        "Attribute predictability by one SVM (Kumar et al., 2018). Perfect codes of sprites: 0.25.",
    ),
    (
        "dci_disentanglement",
        "share",
        "higher",
        "DCI, boosted trees (Eastwood and Williams, 2018); rises with the images.",
    ),
    ("dci_completeness", "share", "higher", "DCI, boosted trees (Eastwood and Williams, 2018); rises with the images."),
    ("dci_informativeness", "share", "higher", "DCI: test accuracy of the boosted trees, mean over factors."),
    ("factor_vae_score", "share", "higher", "Accuracy of a majority vote (Kim and Mnih, 2018). Chance is 1 / factors."),
    (
        "beta_vae_score",
        "share",
        "higher",
        "Accuracy of a linear classifier (Higgins et al., 2017). Chance is 1 / factors.",
    ),
    (
        "modularity",
        "share",
        "higher",
        "From mutual information (Ridgeway and Mozer, 2018). Noise gets 0.68 on sprites.",
    ),
)

_COST = _section(
    "cost",
    ("parameters", "", "lower", "Trained numbers in encoder, decoder and likelihood."),
    ("flops_per_image", "FLOP", "lower", "One image through encoder and decoder, a multiply-add counted as two."),
    ("images_per_second", "1/s", "higher", "Training images per second, without validation and pictures."),
    ("seconds", "s", "lower", "Wall-clock time of training."),
    ("peak_memory_bytes", "bytes", "lower", "Most memory in use: of the GPU by torch, else of the process."),
    ("code_bits", "bits", "lower", "Size of an image's code as it is stored: 32 bits for each latent dimension."),
)


def mostly_unused(active: float, count: int, weights: Sequence[str] = ()) -> str:
    """What to say of a model with fewer than half of ``count`` latent dimensions active, and what helps; else nothing.

    ``weights`` are settings of its objective, as a user writes them.
    """
    if 2 * active >= count:
        return ""
    less = f"a smaller weight of the KL ({', '.join(weights)}), " if weights else ""
    return (
        f"only {active:.3g} of {count} latent dimensions are active; the others carry no information about the images."
        f" What can help: {less}longer training, a likelihood that suits the data (model.likelihood), or a smaller"
        " model.latent_dim"
    )


CATALOGUE: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *_LIKELIHOOD,
        *_RECONSTRUCTION,
        *_GENERATION,
        *_INTERPOLATION,
        *_LATENT,
        *_DISENTANGLEMENT,
        *_COST,
    )
}

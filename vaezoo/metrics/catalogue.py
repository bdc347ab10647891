"""Unit, direction and estimator of every metric, for tables, tooltips and documentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """Description of one metric of an evaluation."""

    name: str
    unit: str
    better: Literal["higher", "lower", ""]
    text: str
    section: str

    @property
    def arrow(self) -> str:
        """An arrow for a table's header: up if higher is better; empty if there is no better direction."""
        return {"higher": "↑", "lower": "↓", "": ""}[self.better]


def _section(section: str, *rows: tuple[str, str, Literal["higher", "lower", ""], str]) -> list[Metric]:
    return [Metric(name, unit, better, text, section) for name, unit, better, text in rows]


NATS = "nats per image"

_LIKELIHOOD = _section(
    "likelihood",
    ("elbo", NATS, "higher", "Evidence lower bound at beta = 1, from one draw of the code for each test image."),
    (
        "recon",
        NATS,
        "",
        "Distortion: -log p(x|z), summed over pixels, for one draw of the code (for an AE, its only code).",
    ),
    (
        "kl",
        NATS,
        "",
        "Rate: KL divergence of the posterior from the prior, in closed form or, where there is none, from the draw of"
        " recon; for indices of N positions and K codes, N log K.",
    ),
    (
        "elbo_prior",
        NATS,
        "higher",
        "As the ELBO, with the rate of indices under the prior that vaezoo prior fitted to those of training images.",
    ),
    (
        "prior_rate",
        NATS,
        "",
        "Rate of indices under the prior that vaezoo prior fitted: less than kl by what it has learned about them.",
    ),
    ("iw_bound", NATS, "higher", "Importance-weighted bound on log p(x) from K draws (Burda et al., 2016)."),
    (
        "elbo_given_label",
        NATS,
        "higher",
        "As the ELBO, of a conditional model: a bound on log p(x|y) of images given their label, not on log p(x).",
    ),
    (
        "iw_bound_given_label",
        NATS,
        "higher",
        "As the importance-weighted bound, of a conditional model: on log p(x|y), not on log p(x).",
    ),
    ("iw_ess", "draws", "higher", "Effective number of the K draws, (sum w)² / sum w², median over images."),
    ("log_likelihood", NATS, "higher", "Exact log p(x) of the reference row pPCA (Tipping and Bishop, 1999)."),
    (
        "bits_per_dim",
        "bits",
        "lower",
        "-ELBO per pixel and channel, for discrete likelihoods on data that they are defined on.",
    ),
)

_RECONSTRUCTION = _section(
    "reconstruction",
    (
        "mse",
        "squared pixel",
        "lower",
        "Mean squared error of reconstructions from the posterior mean, pixels in [0, 1], or standardised columns.",
    ),
    ("psnr", "dB", "higher", "Peak signal-to-noise ratio, computed per image and then averaged."),
    ("ssim", "", "higher", "Structural similarity (Wang et al., 2004), Gaussian window, mean over images."),
    (
        "ms_ssim",
        "",
        "higher",
        "Multi-scale structural similarity (Wang et al., 2003), with the scales that the images have pixels for.",
    ),
    (
        "perceptual_lite0",
        "",
        "lower",
        "Distance of reconstructions in features of EfficientNet-Lite0 trained on ImageNet, of the form of LPIPS with"
        " equal weights; images below 96 pixels are enlarged.",
    ),
    (
        "lpips",
        "",
        "lower",
        "Learned perceptual distance of reconstructions (Zhang et al., 2018), version 0.1, at the images' own size.",
    ),
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
RFID = "reconstruction_fd_inception"
"""The reconstruction FID: the name is kept for features of Inception, and means little without PSNR beside it."""
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
        "Fraction of {source} inside the test set's 3-nearest-neighbour balls, in {features}.",
    ),
    (
        "recall",
        "share",
        "higher",
        "Fraction of the test set inside the 3-nearest-neighbour balls of {source}, in {features}.",
    ),
    (
        "density",
        "",
        "higher",
        "Mean number of the test set's 5-nearest-neighbour balls that contain {source}, divided by 5, in {features}.",
    ),
    (
        "coverage",
        "share",
        "higher",
        "Fraction of the test set's 5-nearest-neighbour balls that contain one of {source}, in {features}.",
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

_GENERATION.append(
    Metric(
        "independent_fd_classifier",
        "",
        "",
        "Frechet distance of images decoded from independent indices with the frequencies of training images', in"
        f" {FEATURES['classifier']}: what a prior over indices must improve upon.",
        "generation",
    )
)

_INTERPOLATION = _section(
    "interpolation",
    (
        "interpolation_fd_endpoints",
        "",
        "lower",
        "Frechet distance of as many reconstructions of the paths' ends: the best that midpoints can reach.",
    ),
    (
        "interpolation_kd_endpoints",
        "×10³",
        "lower",
        "Kernel distance of as many reconstructions of the paths' ends: the best that midpoints can reach.",
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
                f"Largest step over mean step of decoded {method} paths between test images, in pixels; 1 is even.",
            ),
            (
                f"step_ratio_features_{method}",
                "",
                "lower",
                f"Largest step over mean step of decoded {method} paths, in {FEATURES['classifier']}; 1 is even.",
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
        "Between images and codes under the aggregate posterior of n images; at most log n (Chen et al., 2018).",
    ),
    (
        "total_correlation",
        "nats",
        "",
        "Dependence of latent dimensions under the aggregate posterior; overestimated if KL exceeds log n.",
    ),
    ("dimensionwise_kl", "nats", "", "KL divergence of each dimension's aggregate posterior from the prior, summed."),
    (
        "aggregate_kl",
        "nats",
        "",
        "KL divergence of the aggregate posterior from the prior: total correlation + dimension-wise KL.",
    ),
    (
        "moments_kl",
        "nats",
        "",
        "KL divergence from N(0, I) of the Gaussian with the moments of the codes, or of the aggregate posterior: a"
        " lower bound on how far they are from it.",
    ),
    (
        "perplexity",
        "codes",
        "",
        "Effective number of codes in use: exp of the entropy of their frequencies over all test images.",
    ),
    ("codes_used", "share", "", "Share of the codebook that occurs among the codes of the test images."),
    ("probe_accuracy", "share", "higher", "Accuracy of a logistic regression from codes to labels."),
    (
        "probe_accuracy_100",
        "share",
        "higher",
        "Accuracy of a logistic regression fitted to codes of 100 labelled training images, mean over 5 such draws.",
    ),
    ("knn_accuracy", "share", "higher", "Accuracy of a vote of the 20 nearest training codes (Euclidean) on labels."),
)

_DISENTANGLEMENT = _section(
    "disentanglement",
    (
        "mig",
        "share",
        "higher",
        "Mutual information gap, 20 bins (Chen et al., 2018). Perfect codes of sprites score 0.90.",
    ),
    (
        "sap",
        "share",
        "higher",
        "Attribute predictability by one SVM (Kumar et al., 2018). Perfect codes of sprites score 0.25.",
    ),
    (
        "dci_disentanglement",
        "share",
        "higher",
        "DCI, boosted trees (Eastwood and Williams, 2018); rises with the number of images.",
    ),
    (
        "dci_completeness",
        "share",
        "higher",
        "DCI, boosted trees (Eastwood and Williams, 2018); rises with the number of images.",
    ),
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
        "From mutual information (Ridgeway and Mozer, 2018). Noise scores 0.68 on sprites.",
    ),
)

_ANOMALIES = _section(
    "anomalies",
    *(
        (
            f"auroc_{score}",
            "",
            "higher",
            f"AUROC by which test images of classes left out of training are found: {text}.",
        )
        for score, text in {
            "mse": "by the squared error of reconstructions",
            "recon": "by recon",
            "neg_elbo": "by -ELBO",
            "kl": "by KL",
            "knn_distance": "by the code's distance from the 5th nearest training code",
            "mahalanobis": "by the code's distance from the mean of training codes, in standard deviations",
        }.items()
    ),
)

_COST = _section(
    "cost",
    ("parameters", "", "lower", "Trainable parameters."),
    (
        "flops_per_image",
        "FLOP",
        "lower",
        "Floating-point operations for one image through encoder and decoder; a multiply-add counts as two.",
    ),
    ("images_per_second", "1/s", "higher", "Training images per second, without validation and pictures."),
    ("seconds", "s", "lower", "Wall-clock time of training, with validation and pictures."),
    ("peak_memory_bytes", "bytes", "lower", "Peak memory: on a GPU allocated by torch, otherwise used by the process."),
    (
        "code_bits",
        "bits",
        "lower",
        "Size of an image's stored code: 32 bits for each latent dimension, or log2 K for each index.",
    ),
)


def mostly_unused(active: float, count: int, weights: Sequence[str] = ()) -> str:
    """A warning with remedies if fewer than half of ``count`` latent dimensions are active; otherwise empty.

    ``weights`` are the settings with weights of the objective, such as ``model.beta``.
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
        *_ANOMALIES,
        *_COST,
    )
}

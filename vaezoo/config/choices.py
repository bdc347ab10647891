"""The values that settings may take. It imports nothing slow, so that the command line can list them immediately."""

NETWORKS = ("mlp", "conv", "resnet")
GRIDS = ("conv", "resnet")
"""Networks with a grid of positions, for spatial codes."""
LIKELIHOODS = (
    "bernoulli",
    "continuous_bernoulli",
    "gaussian",
    "learned_gaussian",
    "discretized_logistic",
    "laplace",
    "log_cosh",
)
POSTERIORS = ("diagonal", "full", "planar", "radial", "iaf", "power_spherical", "von_mises_fisher")
PRIORS = ("normal", "vamp", "mixture", "flow", "uniform_sphere", "conditional")
BOUNDS = ("elbo", "iwae", "miwae", "ciwae", "piwae")
CORRUPTIONS = ("gaussian", "masking", "salt_pepper")
PENALTIES = ("total_correlation", "critic_tc", "dip", "mmd", "sliced_wasserstein", "ssim", "adversarial")
PERCEPTUAL = ("lite0", "lpips_vgg", "lpips_alex", "ms_ssim", "classifier")
DISCRIMINATORS = ("patches",)
QUANTIZERS = ("vq", "rvq", "fsq", "lfq", "bsq", "simvq", "gumbel")
BETA_SCHEDULES = ("constant", "linear", "cyclic")
EVALUATIONS = ("quick", "full", "none")
STEPPING = ("fast", "lightning")
COMPILE = (False, True, "reduce-overhead")
FORMATS = ("png", "pdf", "svg")
DPI = range(50, 1201)
"""Resolution of the figures drawn during training, in dots per inch."""

MOST_THREADS = 1024

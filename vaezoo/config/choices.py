"""The values that settings may take. It imports nothing slow, so that the command line can list them immediately."""

NETWORKS = ("mlp", "conv", "resnet")
GRIDS = ("conv", "resnet")
"""Networks with a grid of positions, for spatial codes."""
LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian", "learned_gaussian", "discretized_logistic")
POSTERIORS = ("diagonal", "full")
PRIORS = ("normal", "vamp", "mixture", "conditional")
BOUNDS = ("elbo", "iwae", "miwae", "ciwae", "piwae")
PENALTIES = ("total_correlation", "critic_tc")
QUANTIZERS = ("vq",)
BETA_SCHEDULES = ("constant", "linear", "cyclic")
EVALUATIONS = ("quick", "full", "none")
STEPPING = ("fast", "lightning")
COMPILE = (False, True, "reduce-overhead")
FORMATS = ("png", "pdf", "svg")
DPI = range(50, 1201)
"""Resolution of the figures drawn during training, in dots per inch."""

MOST_THREADS = 1024

"""The names that settings may take. Imports nothing slow, so that the command line can list and check them at once."""

NETWORKS = ("mlp", "conv", "resnet")
LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian", "learned_gaussian", "discretized_logistic")
BETA_SCHEDULES = ("constant", "linear", "cyclic")
EVALUATIONS = ("quick", "full", "none")
STEPPING = ("fast", "lightning")
COMPILE = (False, True, "reduce-overhead")
FORMATS = ("png", "pdf", "svg")
DPI = range(50, 1201)
"""Of the pictures that a training draws."""

MOST_THREADS = 1024

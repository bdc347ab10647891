"""Building blocks of models: networks, likelihoods, posteriors, interpolation, and checks of the image API."""

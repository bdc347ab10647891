"""Parts that models are made of: networks, likelihoods, posteriors, interpolation. They work on tensors only."""

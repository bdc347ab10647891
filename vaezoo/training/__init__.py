"""Training of autoencoders: the LightningModule, the training step, callbacks, loggers and trackers."""

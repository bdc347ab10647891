"""How any autoencoder is trained: the LightningModule, the training step, callbacks, loggers and trackers."""

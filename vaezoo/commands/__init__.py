"""The command-line programs, and the training run from config to record."""

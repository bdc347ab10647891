"""A trained model for others: weights as safetensors with a card, and programs that need no vaezoo."""

"""Export of trained models: weights as safetensors with a model card, and programs that do not need vaezoo."""

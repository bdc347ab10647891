"""Shared parts of scripts/throughput.py and scripts/profile_step.py. Not part of vaezoo."""

"""Parts of scripts/throughput.py and scripts/profile_step.py: loads, contestants, tables. Not part of vaezoo."""

"""What scripts/throughput.py and scripts/profile_step.py are made of: loads, contestants, tables. No part of vaezoo."""

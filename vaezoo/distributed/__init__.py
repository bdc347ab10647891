"""Processes and threads: ranks, batch shares, sharding, signals, and the machine's CPUs and memory."""

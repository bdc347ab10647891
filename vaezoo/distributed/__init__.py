"""Several processes and threads: ranks, shares of a batch, sharding, signals and the processors of this machine."""

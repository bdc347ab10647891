"""Settings: how they are read, checked and explained to the user. The lowest floor: it imports nothing of vaezoo."""

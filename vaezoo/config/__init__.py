"""Settings: reading, checking and explaining them. The lowest layer: it imports no other package of vaezoo."""

VERSION = "0.1.0"

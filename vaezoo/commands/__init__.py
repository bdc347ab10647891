"""The command line: what each command does, prints and returns as its exit code."""

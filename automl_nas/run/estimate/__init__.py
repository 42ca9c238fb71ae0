"""What can be known before a run: a short run of all stages in a temporary directory, and estimates from it."""

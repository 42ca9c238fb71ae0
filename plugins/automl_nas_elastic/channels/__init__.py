"""Which channels of a network depend on each other: found by running it once, without a rule for each model."""

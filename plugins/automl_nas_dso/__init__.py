"""DSO-NAS: direct sparse optimisation of a fully connected graph."""

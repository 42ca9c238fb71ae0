"""Tabular NAS benchmarks, the comparison of strategies on them, and how well a supernet ranks."""

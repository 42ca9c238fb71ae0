"""Costs of architectures: cost models, cost tables, exact counting, and the best architecture under limits."""

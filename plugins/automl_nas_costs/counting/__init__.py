"""Counting what networks cost: one forward pass, without data where that is possible."""

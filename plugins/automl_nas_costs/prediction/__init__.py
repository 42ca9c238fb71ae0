"""Latency predicted from measured samples, and from tables of parts."""

"""Comparison of one-shot methods on spaces whose networks have known true values: ``automl-nas compare-one-shot``."""

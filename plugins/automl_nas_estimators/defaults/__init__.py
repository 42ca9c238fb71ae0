"""Choosing a configuration from data: used by ``automl-nas init`` and by the estimators."""

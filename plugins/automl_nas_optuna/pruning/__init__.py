"""Optuna's pruners for the trials of runs."""

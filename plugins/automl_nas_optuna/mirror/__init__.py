"""Copying the trials of a run into an Optuna storage, during the run or afterwards."""

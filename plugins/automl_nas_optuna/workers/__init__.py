"""Distributed evaluation: a run puts evaluations into a queue in an Optuna storage, worker processes take them."""

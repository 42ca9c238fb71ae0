"""Optuna's samplers as search strategies of this framework."""

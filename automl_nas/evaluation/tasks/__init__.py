"""Supervised tasks: losses and metrics by name, intervals, splits, and tasks for any data set or arrays."""

"""Graphs of modules whose edges are searched."""

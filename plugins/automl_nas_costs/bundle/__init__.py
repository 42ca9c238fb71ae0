"""Measuring on another device: a folder that goes there, and results that come back."""

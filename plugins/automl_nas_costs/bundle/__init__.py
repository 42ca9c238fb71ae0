"""Measuring on another device: a folder that is copied there, and results that are copied back."""

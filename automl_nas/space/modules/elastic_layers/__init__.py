"""Layers of searched size: the layer that owns a decision, and layers that follow their input."""

"""The strategies, their settings, and the base class they share."""

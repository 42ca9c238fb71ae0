"""How a run shows its progress on stderr or in the log: subscribers of its events."""

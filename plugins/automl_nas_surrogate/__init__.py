"""Search guided by a model of what was evaluated."""

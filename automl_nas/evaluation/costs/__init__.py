"""What an architecture costs: cost models, their tables, and exact questions about sums of costs."""

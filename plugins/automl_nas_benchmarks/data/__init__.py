"""The packaged tables, and what makes them."""

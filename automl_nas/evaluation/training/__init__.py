"""Training a network on a task, and what belongs to it: recipes, batch normalisation, auxiliary heads."""

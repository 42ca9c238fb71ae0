"""Training a network on a task: the training loop, recipes, batch normalisation, auxiliary heads, automatic tuning."""

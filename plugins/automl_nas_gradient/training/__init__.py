"""The training of weights and alpha: settings, steps, the unrolled gradient, and the cost in the loss."""

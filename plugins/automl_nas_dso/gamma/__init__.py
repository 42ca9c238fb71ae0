"""The size of the penalty: its effect on an edge (penalty travel), a factor for each edge, and the sparsity target."""

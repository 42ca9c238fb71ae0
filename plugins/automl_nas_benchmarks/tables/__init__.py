"""Tables of evaluated architectures: files and codes, their space, evaluators and costs, and the packaged tables."""

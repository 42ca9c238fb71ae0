"""Resolves and checks a configuration: from a YAML file or a mapping to a `Plan`."""

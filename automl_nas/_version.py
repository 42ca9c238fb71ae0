"""The version, apart from the names that the package exports: modules of the package need it."""

__version__ = "0.1.0"

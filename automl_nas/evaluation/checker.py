"""Checks of constructor arguments before a run, for classes whose constructors are called when their stage begins."""


def unchecked() -> None:
    """Check nothing: the default of `Strategy.checker` and `Evaluator.checker`."""

"""What is checked before there is a run, of classes whose constructors are called when their stage begins."""


def unchecked() -> None:
    """Check nothing: the default of `Strategy.checker` and `Evaluator.checker`."""

"""Networks of integer tokens: recognised by the error with which they refuse floating inputs."""

from __future__ import annotations


def refuses_floats(error: Exception) -> bool:
    """Return whether torch raised the error because an embedding or a one-hot encoding received floating inputs.

    Code that runs a network on zeros, knowing only the shape of its input, then repeats it with int64 zeros. A space
    states no type of its inputs: the error of the network shows which one it needs.
    """
    text = str(error)
    return isinstance(error, RuntimeError) and ("indices" in text or "index tensor" in text)

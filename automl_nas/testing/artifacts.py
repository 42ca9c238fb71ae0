"""`MemoryArtifacts`: weights in memory, for tests of strategies and evaluators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas.evaluation.artifacts import Artifacts

if TYPE_CHECKING:
    from torch import Tensor


@final
class MemoryArtifacts(Artifacts):
    """Weights in memory. `load` takes the names that `save` was given, and the names of ``stored``.

    Args:
        stored: name -> tensors, as if another stage had saved them.

    Attributes:
        stored: name -> tensors.
    """

    def __init__(self, stored: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        self.stored = {name: dict(tensors) for name, tensors in (stored or {}).items()}

    def save(self, tensors: Mapping[str, Tensor], *, name: str = "weights") -> None:
        """Keep copies of the tensors."""
        self.stored[name] = {key: value.detach().clone() for key, value in tensors.items()}

    def load(self, reference: str) -> dict[str, Tensor]:
        """Return the tensors of a name.

        Raises:
            ConfigurationError: nothing was saved under this name.
        """
        if reference not in self.stored:
            raise ConfigurationError(f"there are no weights '{reference}'{did_you_mean(reference, self.stored)}")
        return dict(self.stored[reference])

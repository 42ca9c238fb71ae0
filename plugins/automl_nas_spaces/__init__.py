"""Search spaces of published papers."""

from __future__ import annotations

from collections.abc import Callable

from automl_nas.plugin import hookimpl


@hookimpl
def register_spaces(register: Callable[..., None]) -> None:
    """Offer the spaces."""
    register(
        "shufflenet_v2",
        "automl_nas_spaces.shufflenet_v2:shufflenet_v2",
        summary="the block search of SPOS: ShuffleNetV2 with four candidates for every block, for images of any size",
    )
    register(
        "shufflenet_v2_channels",
        "automl_nas_spaces.channels:ShuffleNetV2Channels",
        summary="blocks and channels of SPOS together: a candidate and a width for every block",
    )

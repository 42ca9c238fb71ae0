"""Where the blocks of a staged network stand and how wide they are; all checks of the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automl_nas.errors import SpaceError


@dataclass(frozen=True)
class Place:
    """One block.

    Attributes:
        stage: its stage, counted from 1.
        block: its number in the stage, counted from 1.
        inp: channels that come in.
        mid: channels inside the main branch.
        out: channels that go out.
        stride: 1 or 2.
    """

    stage: int
    block: int
    inp: int
    mid: int
    out: int
    stride: int

    @property
    def projects(self) -> bool:
        """Whether size or width change, so that the input cannot simply pass through."""
        return self.stride != 1 or self.inp != self.out


def place_blocks(
    *,
    input_size: tuple[int, int],
    stem_channels: int,
    stem_stride: int,
    widths: Sequence[int],
    repeats: Sequence[int],
    strides: Sequence[int],
    channel_scales: Sequence[float] | None,
) -> tuple[Place, ...]:
    """Return the blocks of all stages, in order.

    Args:
        input_size: height and width of the images.
        stem_channels: channels that reach the first stage.
        stem_stride: stride of the stem.
        widths: output channels of each stage.
        repeats: blocks of each stage.
        strides: stride of the first block of each stage; the others have stride 1.
        channel_scales: for each block, ``mid = int(out // 2 * scale)``; None: 1 everywhere.

    Raises:
        SpaceError: settings that contradict each other, or images too small for the strides.
    """
    if not len(widths) == len(repeats) == len(strides) or not widths:
        raise SpaceError(
            "widths, repeats and strides have one number for each stage, "
            f"not {len(widths)}, {len(repeats)} and {len(strides)}"
        )
    if wrong := [count for count in repeats if count < 1]:
        raise SpaceError(f"a stage has at least one block, not {wrong[0]} (repeats {tuple(repeats)})")
    if wrong := [stride for stride in (stem_stride, *strides) if stride not in (1, 2)]:
        raise SpaceError(f"a stride is 1 or 2, not {wrong[0]} (stem_stride {stem_stride}, strides {tuple(strides)})")
    _check_size(input_size, stem_stride, strides)
    scales = _scales(channel_scales, sum(repeats))
    places: list[Place] = []
    inp = stem_channels
    for stage, (width, count, stride) in enumerate(zip(widths, repeats, strides, strict=True), start=1):
        if width < 4 or width % 4:
            raise SpaceError(f"stage {stage}: a width is a multiple of 4, since channels are halved, not {width}")
        if width < inp or (width == inp and stride != 1):
            raise SpaceError(
                f"stage {stage}: the {inp} channels that come in go out as well, through the projection, and the main "
                f"branch adds the rest, so its width must be greater than {inp}, not {width}"
            )
        for block in range(1, count + 1):
            scale = scales[len(places)]
            # The paper's code truncates in exactly this order; another one rounds some scales differently.
            mid = int(width // 2 * scale)
            if mid < 1:
                raise SpaceError(f"block {block} of stage {stage}: the channel scale {scale} leaves no channel")
            places.append(Place(stage, block, inp, mid, width, stride if block == 1 else 1))
            inp = width
    return tuple(places)


def _scales(channel_scales: Sequence[float] | None, blocks: int) -> Sequence[float]:
    if channel_scales is None:
        return (1.0,) * blocks
    if len(channel_scales) != blocks:
        raise SpaceError(f"channel_scales has one number for each of the {blocks} blocks, not {len(channel_scales)}")
    return channel_scales


def _check_size(input_size: tuple[int, int], stem_stride: int, strides: Sequence[int]) -> None:
    smallest = min(input_size)
    if smallest < 1:
        raise SpaceError(f"images have at least one pixel, not {input_size[0]}x{input_size[1]}")
    size = smallest
    for stride in (stem_stride, *strides):
        if stride == 2 and size == 1:
            halvings = [stem_stride, *strides].count(2)
            raise SpaceError(
                f"images of {input_size[0]}x{input_size[1]} are too small for {halvings} strides of 2 "
                f"(stem_stride {stem_stride}, strides {tuple(strides)}): they can be halved "
                f"{(smallest - 1).bit_length()} times; set some strides to 1"
            )
        # A convolution with padding kernel // 2 and stride 2 gives half of the pixels, rounded up.
        size = -(-size // stride)

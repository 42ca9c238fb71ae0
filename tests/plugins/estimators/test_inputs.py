"""What arrays are taken as, and how they are arranged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from automl_nas.errors import ConfigurationError, DataError
from automl_nas_estimators.inputs import InputForm, as_pixels


@pytest.mark.parametrize(
    ("shape", "dtype", "kind", "last"),
    [
        ((5, 7), np.float64, "table", False),
        ((5, 7), np.int64, "table", False),
        ((5, 3, 40), np.float32, "signal", False),
        ((5, 8, 8), np.float64, "image", False),
        ((5, 8, 9), np.uint8, "image", False),
        ((5, 3, 8, 9), np.uint8, "image", False),
        ((5, 8, 9, 3), np.uint8, "image", True),
        ((5, 8, 9, 1), np.float32, "image", True),
        ((5, 3, 9, 3), np.float32, "image", False),
        ((5, 7, 8, 9), np.float32, "image", False),
    ],
)
def test_the_kind_follows_from_shape_and_type(shape: Any, dtype: Any, kind: str, last: bool) -> None:
    form = InputForm.of(np.zeros(shape, dtype), "auto")
    assert (form.kind, form.channels_last, form.shape) == (kind, last, shape[1:])
    assert "X is" in str(form)


def test_images_are_arranged_with_their_channels_first() -> None:
    x = np.arange(2 * 6 * 5 * 3).reshape(2, 6, 5, 3)
    arranged = InputForm.of(x, "auto").arrange(x)
    assert arranged.shape == (2, 3, 6, 5)
    assert arranged[1, 2, 3, 4] == x[1, 3, 4, 2]
    assert InputForm.of(x[..., 0], "image").arrange(x[..., 0]).shape == (2, 1, 6, 5)


def test_tokens_are_whole_numbers() -> None:
    assert InputForm.of(np.array([[0.0, 3.0]]), "tokens").arrange(np.array([[0.0, 3.0]])).dtype == np.int64
    for wrong in (np.array([[0.5]]), np.array([[-1]]), np.array([[True]])):
        with pytest.raises(DataError, match="whole numbers"):
            InputForm.of(wrong, "tokens")


@pytest.mark.parametrize(("shape", "kind"), [((5, 7), "image"), ((5, 3, 8, 8), "signal"), ((5, 3, 8), "tokens")])
def test_shapes_that_do_not_fit_the_kind_are_refused(shape: Any, kind: str) -> None:
    with pytest.raises(DataError, match=f"data='{kind}'"):
        InputForm.of(np.zeros(shape), kind)


def test_other_kinds_and_other_shapes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'tokens'"):
        InputForm.of(np.zeros((5, 7)), "token")
    with pytest.raises(DataError, match="5 axes"):
        InputForm.of(np.zeros((1,) * 5), "auto")
    with pytest.raises(DataError, match=r"shape \(8,\), and had the shape \(7,\)"):
        InputForm.of(np.zeros((5, 7)), "auto").arrange(np.zeros((5, 8)))


def test_images_become_pixels_only_without_a_loss() -> None:
    whole = np.array([0.0, 16.0, 255.0])
    pixels = as_pixels(whole)
    assert pixels is not None and pixels.dtype == np.uint8 and pixels.tolist() == [0, 16, 255]
    for other in ([0.5], [-1.0], [256.0]):
        assert as_pixels(np.array(other)) is None

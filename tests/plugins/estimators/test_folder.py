"""`NASClassifier.fit_folder`."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plugins.estimators.fast import small_images

from automl_nas.errors import ConfigurationError, DataError
from automl_nas_estimators import NASClassifier


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(15):
            pixels = np.clip(rng.normal(level, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_files_and_their_pixels_have_the_same_prediction(folder: Path) -> None:
    estimator = NASClassifier(random_state=0, progress="none", sections=small_images(1)).fit_folder(folder)
    assert estimator.classes_.tolist() == ["dark", "light"]
    paths = sorted(folder.rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in paths])
    chances = estimator.predict_proba(paths)
    # The normalisation is computed in float32 for files and in float64 for arrays.
    np.testing.assert_allclose(chances, estimator.predict_proba(pixels), atol=1e-5)
    again = pickle.loads(pickle.dumps(estimator))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(again.predict_proba([str(path) for path in paths]), chances)
    (folder / "broken.png").write_text("no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        estimator.predict([folder / "broken.png"])
    with pytest.raises(DataError, match="missing"):
        estimator.predict([folder / "missing.png"])
    with pytest.raises(DataError, match="had the shape"):
        estimator.predict(pixels[..., :-1])


def test_other_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    for path, message in ((tmp_path / "table.csv", "neither a folder"), (tmp_path / "nothing", "does not exist")):
        with pytest.raises(ConfigurationError, match=message):
            NASClassifier(progress="none").fit_folder(path)

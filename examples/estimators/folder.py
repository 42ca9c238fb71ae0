"""A classifier of image files: a folder with a folder of images for each class (see ../prepare_folder.py)."""

import sys
from pathlib import Path
from typing import Any

from automl_nas_estimators import NASClassifier


def main(images: Path, directory: Path, **settings: Any) -> NASClassifier:
    classifier = NASClassifier(random_state=0, directory=directory, **settings).fit_folder(images)
    print(dict(classifier.result_.metrics), "on the images that were held out")
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))[:5]
    for file, label in zip(files, classifier.predict(files), strict=True):
        print(file, label)
    return classifier


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path("runs/folder")).export("runs/folder/package", "package")

"""A classifier of images: handwritten digits. The search, the training and the test are one call of `fit`."""

from pathlib import Path
from typing import Any

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from automl_nas_estimators import NASClassifier


def main(directory: Path, **settings: Any) -> NASClassifier:
    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.images, digits.target, test_size=0.2, random_state=0, stratify=digits.target
    )
    classifier = NASClassifier(random_state=0, directory=directory, **settings).fit(x_train, y_train)
    print(f"accuracy on {len(y_test)} new images: {classifier.score(x_test, y_test):.4f}")
    return classifier


if __name__ == "__main__":
    main(Path("runs/digits")).export("runs/digits/package", "package")

"""Write scikit-learn's wine data as a CSV file, for examples/configs/csv_wine.yaml."""

import csv
import sys
from pathlib import Path

from sklearn.datasets import load_wine


def main(path: Path) -> None:
    """Write the file: a header, then 178 rows of 13 numbers and the kind of the wine."""
    wine = load_wine()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*wine.feature_names, "kind"])
        for row, kind in zip(wine.data.tolist(), wine.target.tolist(), strict=True):
            writer.writerow([*row, wine.target_names[kind]])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "wine.csv"))

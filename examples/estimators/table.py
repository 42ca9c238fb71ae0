"""A regressor of a table in a pipeline of scikit-learn, beside a linear model."""

from pathlib import Path
from typing import Any

from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from automl_nas_estimators import NASRegressor


def main(directory: Path, **settings: Any) -> Pipeline:
    x_train, x_test, y_train, y_test = train_test_split(*load_diabetes(return_X_y=True), random_state=0)
    network = NASRegressor(random_state=0, directory=directory, **settings)
    searched = make_pipeline(PolynomialFeatures(interaction_only=True, include_bias=False), network)
    for name, model in (("linear model", LinearRegression()), ("searched network", searched)):
        print(f"{name}: R2 on {len(y_test)} new rows {model.fit(x_train, y_train).score(x_test, y_test):.3f}")
    return searched


if __name__ == "__main__":
    main(Path("runs/diabetes"))

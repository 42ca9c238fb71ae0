"""How well predictors rank architectures: the study behind ``automl-nas rank``."""

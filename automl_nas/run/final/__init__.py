"""The last stage: retrain, compare, test once, export."""

"""Broken components: each breaks one clause of a contract of `automl_nas.testing`, which must reject it."""

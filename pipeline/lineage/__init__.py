"""The lineage of a model: its data, code, parameters and runs, in git, DVC and MLflow."""

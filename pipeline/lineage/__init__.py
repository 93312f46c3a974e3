"""From a model back to its bytes: what MLflow, git and DVC know of it, and whether it can be made again."""

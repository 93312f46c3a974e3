"""MLflow runs: a view of the training's files, which no result depends on."""

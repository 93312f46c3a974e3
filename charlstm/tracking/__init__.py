"""What shows a result and changes none: MLflow runs."""

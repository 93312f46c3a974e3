"""Publication of trainings as MLflow runs. No result of a training depends on MLflow."""

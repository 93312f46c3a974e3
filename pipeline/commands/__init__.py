"""Commands of `charlstm`, one per module. Each imports torch and MLflow only when it runs."""

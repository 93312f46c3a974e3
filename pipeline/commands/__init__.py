"""Commands of `charlstm`, one per module. A command imports torch and MLflow only when it runs."""

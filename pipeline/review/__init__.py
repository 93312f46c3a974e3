"""What the commands do that show runs: side by side, a sweep, MLflow's own page."""

"""Sweeps: planned experiments, their runs and their results."""

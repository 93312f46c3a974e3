"""Evaluation of a model: text statistics, baselines, comparisons and published losses."""

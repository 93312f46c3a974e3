"""Evaluation of a model: statistics of its texts, baselines, comparisons, published losses."""

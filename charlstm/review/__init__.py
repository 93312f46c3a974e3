"""Pages of results: the review of one model, and the comparison of several models."""

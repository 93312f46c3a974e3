"""Pages and pictures of results: the review of a model, comparisons of several, loss curves."""

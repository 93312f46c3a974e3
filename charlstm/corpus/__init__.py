"""A source becomes the corpus, one UTF-8 text; and its parts."""

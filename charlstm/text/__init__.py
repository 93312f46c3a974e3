"""From a source to ids: download, the corpus, the vocabulary."""

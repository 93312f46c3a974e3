"""What a model scores: the protocols, published losses."""

"""What a model scores: the protocols, dynamic evaluation, published losses."""

"""Published losses stand beside the validation text that they were measured on, and no other."""

import hashlib

from charlstm.evaluation.published import Published, is_the_originals, published_for
from charlstm.text.vocabulary import Vocab

TEXT = "to be, or not to be. Ωmega"
VOCAB = Vocab.of(TEXT)
REPORTED = {
    "validation_sha256": hashlib.sha256(TEXT.encode()).hexdigest(),
    "losses": [{"protocol": "stateful", "system": "a model", "nats_per_char": 1.25}],
}


def test_only_beside_the_same_text() -> None:
    assert published_for(VOCAB.encode(TEXT), VOCAB, REPORTED) == (Published("stateful", "a model", 1.25),)
    assert published_for(VOCAB.encode(TEXT[:-1]), VOCAB, REPORTED) == ()
    assert published_for(VOCAB.encode(TEXT), VOCAB, None) == ()


def test_the_originals_curve_is_of_its_own_text() -> None:
    assert not is_the_originals(VOCAB.encode(TEXT), VOCAB)

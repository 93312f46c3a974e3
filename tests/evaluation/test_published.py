"""Published losses stand beside the validation text that they were measured on, and no other."""

import hashlib

from charlstm.evaluation.published import published_for, text_sha256
from charlstm.params import PublishedLoss
from charlstm.text.vocabulary import Vocab

TEXT = "to be, or not to be. Ωmega"
VOCAB = Vocab.of(TEXT)


def sha256_of(text: str) -> str:
    return text_sha256(VOCAB.encode(text), VOCAB)


REPORTED = {
    "validation_sha256": hashlib.sha256(TEXT.encode()).hexdigest(),
    "losses": [
        {"protocol": protocol, "system": "a model", "nats_per_char": 1.25} for protocol in ("stateful", "windowed_100")
    ],
}


def test_only_beside_the_same_text() -> None:
    stateful, windowed = (
        PublishedLoss(protocol=protocol, system="a model", nats_per_char=1.25)
        for protocol in ("stateful", "windowed_100")
    )
    assert published_for(sha256_of(TEXT), REPORTED, "character") == (stateful, windowed)
    assert published_for(sha256_of(TEXT), REPORTED, "byte") == (stateful,)
    assert published_for(sha256_of(TEXT[:-1]), REPORTED, "character") == ()
    assert published_for(sha256_of(TEXT), None, "character") == ()

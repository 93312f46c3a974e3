"""Losses that others reported for one validation text, by protocol; they say nothing about any other text."""

import hashlib
from collections.abc import Mapping
from typing import Any

from charlstm.params import PublishedLoss
from charlstm.text.vocabulary import Ids, Unit, Vocab

TEST_PREFIX = "test_"  # of the test part, which no choice may see: what compares models leaves it out
CHARS_AT_ONCE = 1_000_000


# The original, from which this project began (https://github.com/tusharip/NLP at 07de339, LSTM/training_log.txt):
# 2 x 256 LSTM, stride-1 windows of 100, Adam 1e-3, 5 epochs. Validation loss after each epoch, measured by
# `sliding_100` (`charlstm.model.loss.sliding`), on the last 10 % of tiny Shakespeare's characters.
ORIGINAL_VAL_SHA256 = "c54f3753a4e6e3c3d1759212815a7caf826e68a33021b25312984400bed40a1f"  # as UTF-8
ORIGINAL_VAL_NATS_PER_CHAR = (1.6052, 1.5432, 1.5285, 1.5252, 1.5290)


def published_for(validation_sha256: str, reported: Mapping[str, Any] | None, unit: Unit) -> tuple[PublishedLoss, ...]:
    """The reported losses if this is the text that they were measured on, to the byte; else none.

    A model of bytes stands beside those by `stateful` alone: windows of bytes are shorter than those of characters.

    Args:
        validation_sha256: of what was measured, as UTF-8 (`text_sha256`).
        reported: `evaluate.published` of the parameters, as plain data; None: nothing was reported.
        unit: of the model.
    """
    if reported is None or validation_sha256 != reported["validation_sha256"]:
        return ()
    losses = [PublishedLoss.model_validate(one) for one in reported["losses"]]
    return tuple(loss for loss in losses if unit == "character" or loss.protocol == "stateful")


def text_sha256(ids: Ids, vocab: Vocab) -> str:
    """The SHA-256 of the text that the ids stand for, as UTF-8."""
    digest = hashlib.sha256()
    for start in range(0, len(ids), CHARS_AT_ONCE):
        digest.update(vocab.utf8_of(ids[start : start + CHARS_AT_ONCE]))
    return digest.hexdigest()

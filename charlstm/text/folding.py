"""Characters that a model never saw, exchanged for the nearest that it knows: quotes, dashes, accents, case."""

import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from charlstm.errors import VocabularyError
from charlstm.options import Unknown
from charlstm.text.vocabulary import UNSEEN, Vocab, describe

# What Unicode's own decompositions (NFKC, NFKD) do not say.
PLAIN = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4`\u2039\u203a", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2043\u2212", "-"),
    **dict.fromkeys("\u2014\u2015", "--"),  # as typewriters and Project Gutenberg have it
    **dict.fromkeys("\t\v\f\u00a0\u2007\u202f", " "),
    **dict.fromkeys("\r\u0085\u2028\u2029", "\n"),
    **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),  # seen by nobody
    **{"\u00e6": "ae", "\u0153": "oe", "\u00f8": "o", "\u00df": "ss", "\u0142": "l", "\u0111": "d", "\u00f0": "d"},
    **{"\u00fe": "th", "\u0131": "i", "\u2044": "/", "\u00d7": "x", '"': "'"},
}


class Folded(NamedTuple):
    """A text of which the vocabulary has every character, and what was exchanged: (old, new) with counts."""

    text: str
    replaced: Counter[tuple[str, str]]


def fold(text: str, vocab: Vocab, unknown: Unknown) -> Folded:
    """`text` with its unknown characters as the rule says: an error, the nearest known one, or none.

    Raises:
        VocabularyError: there are unknown characters and the rule is `error`, or one has no near one.
    """
    found = vocab.unknown(text)
    if not found:
        return Folded(text, Counter())
    if unknown == "error":
        raise VocabularyError(
            f"the model never saw the characters {describe(found)}; unknown: nearest takes those nearest to them, "
            "skip leaves them out"
        )
    if unknown == "skip":
        return _exchanged(text, dict.fromkeys(found, ""))
    text = text.replace("\r\n", "\n") if "\r" in found else text
    composed = unicodedata.normalize("NFC", text)  # an accent may be a character of its own
    text = min(text, composed, key=lambda one: vocab.unknown(one).total())
    nearest = {one: _nearest(one, vocab) for one in vocab.unknown(text)}
    if lost := Counter({one: found[one] for one, near in nearest.items() if near is None}):
        raise VocabularyError(
            f"the model knows no characters near to {describe(lost)}; unknown: skip leaves out all that it never saw"
        )
    return _exchanged(text, {one: near or "" for one, near in nearest.items()})


def with_sign(text: str, vocab: Vocab) -> str:
    """`text` with U+FFFD for each unknown character, as validation text is encoded, if the vocabulary has that sign."""
    if vocab.unknown(UNSEEN):
        return text
    return text.translate({ord(one): UNSEEN for one in vocab.unknown(text)})


def _exchanged(text: str, new: dict[str, str]) -> Folded:
    replaced = Counter((one, new[one]) for one in text if one in new)
    return Folded("".join(new.get(one, one) for one in text), replaced)


def _nearest(character: str, vocab: Vocab) -> str | None:
    """The first candidate of which the vocabulary has every character; None if there is none."""
    return next((one for one in _candidates(character) if not vocab.unknown(one)), None)


def _candidates(character: str) -> Iterator[str]:
    """From the nearest to the farthest: plain forms, without accents, the other case, the sign for unseen ones."""
    lower = character.lower()
    plain = PLAIN.get(character, PLAIN.get(lower, character))
    bare = "".join(one for one in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(one))
    forms = [plain, unicodedata.normalize("NFKC", plain), bare, "".join(PLAIN.get(one, one) for one in bare)]
    yield from forms
    for form in forms:
        yield from (form.lower(), form.upper())
    yield UNSEEN

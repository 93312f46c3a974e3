"""Prompts: some that any text has, beginnings of lines of its validation part; and characters a model never saw."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from charlstm.errors import TextRequestError, VocabularyError
from charlstm.sampling import Unknown, short, unknown_rule
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import UNSEEN, Ids, Vocab, describe

NUM_BEGINNINGS = 3
MAX_LEN = 12  # characters
MAX_READ = 100_000  # ids of the validation part, from its beginning
LINE_END = "\n"
JOINER = "\N{ZERO WIDTH JOINER}"
SKIN_TONES = {chr(code) for code in range(0x1F3FB, 0x1F400)}


def resolve_prompts(prompts: tuple[str, ...] | Literal["auto"], val_ids: Ids, vocab: Vocab) -> tuple[str, ...]:
    """`prompts` as they are; or, where they are `auto`, prompts from the validation part.

    Those are a line break, if the vocabulary has it, and the beginnings of three lines, at places that are spread over
    the part's first 100,000 ids. Where there are no three lines, they are beginnings of words, or of pieces of equal
    length. Each has up to 12 characters, and ends where a word ends if the line has spaces. The vocabulary has all of
    them. The same ids and the same vocabulary always give the same prompts, at least one, and none twice.
    """
    if prompts != "auto":
        return prompts
    text = vocab.decode(EncodedText(val_ids, vocab.unit).first(MAX_READ).ids)
    line_end = [] if vocab.unknown(LINE_END) else [LINE_END]
    beginnings = _beginnings(text)
    # At equal distances from the first one; all of fewer.
    edges = [len(beginnings) * index // NUM_BEGINNINGS for index in range(NUM_BEGINNINGS + 1)]
    spread = [beginnings[start] for start, end in pairwise(edges) if start < end]
    any_character = next((one for one in text if one != UNSEEN), vocab.characters[:1] or LINE_END)
    return tuple(line_end + spread) or (any_character,)


def _beginnings(text: str) -> Sequence[str]:
    """Beginnings of lines; of words if there are too few lines; of equally long pieces if there are too few words."""
    lines = _distinct(text.splitlines()[1:], 2)  # the part may begin in the middle of a line
    if len(lines) >= NUM_BEGINNINGS:
        return lines
    words = _distinct((text[word.start() :][: 2 * MAX_LEN] for word in re.finditer(r"(?<=\s)\S", text)), 2)
    if len(words) >= NUM_BEGINNINGS:
        return words
    pieces = _distinct((text[at : at + MAX_LEN] for at in range(0, len(text), MAX_LEN)), 1)
    return max(lines, words, pieces, key=len)


def _distinct(texts: Iterable[str], min_len: int) -> list[str]:
    """The beginning of each text, in their order; none twice, none short, none with the sign for unseen ones."""
    cut = (_cut(line[0]) for text in texts if (line := text.strip().splitlines()))
    return list(dict.fromkeys(one for one in cut if len(one) >= min_len and UNSEEN not in one))


def _cut(line: str) -> str:
    """The first characters of `line`, to the last end of a word among them, or to the last end of a visible sign.

    `e` and an accent that follows it, or a family of emoji, are one sign. A sign that is longer than a prompt is torn.
    """

    def continues(before: str, character: str) -> bool:
        """Whether `character` belongs to the same visible sign as the one before it."""
        is_mark = unicodedata.category(character).startswith("M") or character in SKIN_TONES
        return is_mark or JOINER in (before, character)

    if len(line) <= MAX_LEN:
        return line
    if words := line[: MAX_LEN + 1].rpartition(" ")[0].rstrip():
        return words
    end = MAX_LEN
    while end > 1 and continues(line[end - 1], line[end]):
        end -= 1
    return line[: end if end > 1 else MAX_LEN]


# Whether prompts can be read by a model: checked before training, and before each text.


def check_prompts(vocab: Vocab, prompts: Sequence[str], name: str) -> None:
    """Check that all of `prompts`, which messages call `name`, can be read.

    Raises:
        VocabularyError: the first that is empty or has characters that the vocabulary lacks.
    """
    for index, prompt in enumerate(prompts):
        where = f"{name}[{index}]"
        if not prompt:
            raise VocabularyError(f"{where}: a prompt is empty; give at least one character, e.g. a newline")
        if unknown := vocab.unknown(prompt):
            lacking = f"has characters that the model never saw: {describe(unknown)}"
            raise VocabularyError(f"{where}: the prompt {prompt!r} {lacking}")


# Characters that a model never saw, exchanged for the nearest that it knows: quotes, dashes, accents, case.
# What Unicode's own decompositions (NFKC, NFKD) do not say.

PLAIN = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4`\u2039\u203a", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2043\u2212", "-"),
    **dict.fromkeys("\u2014\u2015", "--"),  # as typewriters and Project Gutenberg have it
    **dict.fromkeys("\t\v\f\u00a0\u2007\u202f", " "),
    **dict.fromkeys("\r\u0085\u2028\u2029", "\n"),
    **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),  # invisible
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
            f"the model never saw the characters {describe(found)}; --unknown nearest takes near ones, "
            "--unknown skip leaves them out (Python and HTTP: `unknown`)"
        )
    if unknown == "skip":
        return _exchanged(text, dict.fromkeys(found, ""))
    text = text.replace("\r\n", "\n") if "\r" in found else text
    composed = unicodedata.normalize("NFC", text)  # an accent may be a character of its own
    text = min(text, composed, key=lambda one: vocab.unknown(one).total())
    found = vocab.unknown(text)
    nearest = {one: _nearest(one, vocab) for one in found}
    if lost := Counter({one: found[one] for one, near in nearest.items() if near is None}):
        raise VocabularyError(
            f"the model knows no characters near to {describe(lost)}; --unknown skip leaves out all that it never saw"
        )
    return _exchanged(text, {one: near or "" for one, near in nearest.items()})


def readable(name: str, text: object, vocab: Vocab, unknown: object = "error") -> str:
    """`text` in characters that the model knows, by the rule `unknown`; messages call it `name`.

    Raises:
        TextRequestError: no text, no rule, or what `fold` says.
    """
    rule = unknown_rule(unknown)
    if not isinstance(text, str):
        raise TextRequestError(f"{name}: expected a text, got {short(text)}")
    try:
        return fold(text, vocab, rule).text
    except VocabularyError as error:
        raise TextRequestError(f"{name}: {error}") from None


def check_stops(stops: Sequence[str], vocab: Vocab) -> None:
    """Check that the model can write what a text is to stop at.

    Raises:
        TextRequestError: it cannot.
    """
    if never := vocab.unknown("".join(stops)):
        raise TextRequestError(f"stop: the model never writes the characters {describe(never)}")


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
    """Stand-ins, the nearest first: plain forms, without accents, the other case, the sign for unseen ones."""
    lower = character.lower()
    plain = PLAIN.get(character, PLAIN.get(lower, character))
    bare = "".join(one for one in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(one))
    forms = [plain, unicodedata.normalize("NFKC", plain), bare, "".join(PLAIN.get(one, one) for one in bare)]
    yield from forms
    for form in forms:
        yield from (form.lower(), form.upper())
    yield UNSEEN

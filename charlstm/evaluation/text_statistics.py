"""Figures about texts, for an eye that cannot read fifty of them: words, repetition, copying, and the model's own loss.

A word is a run of letters, digits and underscores of any script, without regard to case. Words that a text's ends may
have cut are left out.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from charlstm.evaluation.copied import Span, copied_spans, covered
from charlstm.evaluation.passages import Passage, text_losses
from charlstm.evaluation.protocols import LanguageModel
from charlstm.model.loss import LossSum
from charlstm.text.vocabulary import Ids, Vocab

# A span that stands in the training text once or twice is a copy from 30 characters on. The last tenths of
# Shakespeare, War and Peace and Dickens are no copies of the rest, and less than 1 % of them is in such spans. In
# those of 20 or more it is up to 14 % (`python -m benchmarks.copied --texts`): two phrases that happen to stand side
# by side, e.g. a name of a speaker and "I will". A model that knew its text by heart had 79 to 100 % in those of 30,
# and little more in those of 20.
MIN_COPIED, MAX_TIMES = 30, 2
MIN_PHRASE = 20  # characters; what stands in the training text more often than MAX_TIMES is a phrase of the corpus
MAX_WORD_LEN = 1_000  # characters; a longer word is taken for unknown
CHUNK = 1_000_000  # characters of the training text at a time
MAX_SEARCHED = 200_000_000  # characters of the training text, for copies and words: half a minute on one core
WORD = re.compile(r"\w+")


class Measured(NamedTuple):
    """What was counted in one text."""

    words: list[str]
    num_known: int
    spans: list[Span]
    loss: LossSum


class Figures(NamedTuple):
    """Of several texts together; None where there was nothing to count, or no finite number."""

    num_texts: int
    num_chars: int
    known_words: float | None
    """Share of words that the training text has, too."""
    distinct_bigrams: float | None
    """Different pairs of words in a row, as a share of all pairs (distinct-2, Li et al. 2016), counted within a text:
    texts from one seed resemble each other, whatever their prompts. It falls with the texts' length."""
    longest_copied: int
    """Characters of the longest span that the training text has once or twice."""
    copied: float | None
    """Share of characters in such spans of MIN_COPIED characters or more."""
    phrases: float | None
    """Share of characters in spans of MIN_PHRASE characters or more that the training text has more often."""
    nats_per_char: float | None
    """The loss of the model that is asked, after each text's prompt."""


def measure(
    passages: Sequence[Passage], train: Ids, vocab: Vocab, model: LanguageModel, model_vocab: Vocab | None = None
) -> list[Measured]:
    """Count in each passage's text; one pass over the training ids for words, and two for copied spans.

    Of a huge training text, only the first MAX_SEARCHED ids are searched. All ids are of `vocab`. A model that has
    another is given the texts in that, `model_vocab`.
    """
    train = train[:MAX_SEARCHED]
    words = [words_of(vocab.decode(one.prompt), vocab.decode(one.text)) for one in passages]
    known = known_words(set(itertools.chain.from_iterable(words)), train, vocab)
    spans = copied_spans(train, [one.text for one in passages])
    losses = _losses(passages, vocab, model, model_vocab or vocab)
    return [
        Measured(of_text, sum(word in known for word in of_text), copies, loss)
        for of_text, copies, loss in zip(words, spans, losses, strict=True)
    ]


def _losses(passages: Sequence[Passage], vocab: Vocab, model: LanguageModel, model_vocab: Vocab) -> list[LossSum]:
    if model_vocab is not vocab:
        passages = [Passage(*(model_vocab.encode(vocab.decode(part)) for part in one)) for one in passages]
    return text_losses(model, passages, model_vocab.unit)


def figures(measured: Sequence[Measured]) -> Figures:
    """Of the texts together: counts are added up, then divided once."""
    num_chars = sum(one.loss.num_chars for one in measured)
    bigrams = [list(itertools.pairwise(one.words)) for one in measured]
    return Figures(
        len(measured),
        num_chars,
        _share(sum(one.num_known for one in measured), sum(len(one.words) for one in measured)),
        _share(sum(len(set(pairs)) for pairs in bigrams), sum(map(len, bigrams))),
        max((span.length for one in measured for span in one.spans if span.num_times <= MAX_TIMES), default=0),
        _share(sum(covered(filter(is_copied, one.spans)) for one in measured), num_chars),
        _share(sum(covered(filter(is_phrase, one.spans)) for one in measured), num_chars),
        _share(sum(one.loss.nats for one in measured), num_chars),
    )


def is_copied(span: Span) -> bool:
    """Whether a span is so long and so rare in the training text that it is copied from there."""
    return span.length >= MIN_COPIED and span.num_times <= MAX_TIMES


def is_phrase(span: Span) -> bool:
    """Whether a span is a phrase of the corpus, e.g. who speaks and how speeches begin."""
    return span.length >= MIN_PHRASE and span.num_times > MAX_TIMES


def words_of(prompt: str, text: str) -> list[str]:
    """The words that begin in `text`, where it follows `prompt`, and end before its end."""
    both = prompt + text
    found = WORD.finditer(both, max(0, _last_word_start(prompt)))
    return [one[0].casefold() for one in found if len(prompt) <= one.start() and one.end() < len(both)]


def known_words(words: set[str], train: Ids, vocab: Vocab) -> set[str]:
    """Those of `words` that are in the training text; reads no further than needed, and keeps no other words."""
    missing = {word for word in words if len(word) <= MAX_WORD_LEN}
    asked = set(missing)
    for found in _training_words(train, vocab):
        missing -= found
        if not missing:
            break
    return asked - missing


def _training_words(train: Ids, vocab: Vocab) -> Iterator[set[str]]:
    """The words of each piece of the training text; what may go on in the next piece waits for it."""
    rest = ""
    for start in range(0, len(train), CHUNK):
        piece = rest + vocab.decode(train[start : start + CHUNK])
        cut = _last_word_start(piece) if start + CHUNK < len(train) else len(piece)
        yield {word.casefold() for word in WORD.findall(piece[:cut])}
        rest = piece[cut:][-MAX_WORD_LEN - 1 :]  # of a word that is too long, enough to tell


def _last_word_start(text: str) -> int:
    """Where the word begins that `text` ends with; the text's length if it ends with none."""
    start = len(text)
    while start > 0 and WORD.match(text[start - 1]):
        start -= 1
    return start


def _share(part: float, whole: float) -> float | None:
    """Rounded, so that the last bits of a sum decide nothing."""
    return round(part / whole, 4) if whole and math.isfinite(part) else None

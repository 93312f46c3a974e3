"""Statistics of texts, generated or held out: words, repetition, spans copied from the training text, the model's loss.

All counts are of characters, whatever the model reads.
"""

import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from charlstm.evaluation.results import TextFigures
from charlstm.model.protocols import LossSum, ScorableModel, char_losses
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab

MAX_SEARCHED = (
    100_000_000  # characters of the training text, for copies and words: half a minute on one core
)
MIN_SPAN = 12  # characters; shorter ones are everywhere, and say nothing
# A span that stands in the training text once or twice is a copy from 30 characters on. The last tenths of
# Shakespeare, War and Peace and Dickens are no copies of the rest, and less than 1 % of them is in such spans. In
# those of 20 or more it is up to 14 %: two phrases that happen to stand side by side, e.g. a name of a speaker and
# "I will". A model that knew its text by heart had 79 to 100 % in those of 30, and little more in those of 20.
MIN_COPIED, MAX_TIMES = 30, 2
MIN_PHRASE = 20  # characters; what stands in the training text more often than MAX_TIMES is a phrase of the corpus
JOINERS = "\u200c\u200d"  # inside of words of Persian and Indian scripts


class PromptedText(NamedTuple):
    """A prompt of at least one character, and the text after it."""

    prompt: str
    text: str


class Span(NamedTuple):
    """`length` characters of a text from `start` on that the training text has `num_times`, first at `train_start`."""

    start: int
    length: int
    train_start: int
    num_times: int

    @property
    def is_copied(self) -> bool:
        """Whether it is so long and so rare in the training text that it is copied from there."""
        return self.length >= MIN_COPIED and self.num_times <= MAX_TIMES

    @property
    def is_phrase(self) -> bool:
        """Whether it is a phrase of the corpus, e.g. who speaks and how speeches begin."""
        return self.length >= MIN_PHRASE and self.num_times > MAX_TIMES


class Measured(NamedTuple):
    """The counts of one text."""

    words: list[str]
    num_known: int
    """Words that the training text has, too."""
    spans: list[Span]
    loss: LossSum


def held_out(val: str, like: Sequence[PromptedText]) -> list[PromptedText]:
    """Evenly spaced passages of `val`, one for each of `like`: as long as it, or as `val` where that is shorter."""
    passages = []
    for index, one in enumerate(like):
        size = min(len(one.prompt) + len(one.text), len(val))
        start = (len(val) - size) * (2 * index + 1) // (2 * len(like))
        cut = start + min(len(one.prompt), size - 1)
        passages.append(PromptedText(val[start:cut], val[cut : start + size]))
    return passages


def measure(
    passages: Sequence[PromptedText], train: str, model: ScorableModel, vocab: Vocab
) -> list[Measured]:
    """Count in the text of each passage; `train` is the beginning of the training text, at most MAX_SEARCHED."""
    known = {one[0].casefold() for one in _words_in(train)}
    words = [words_of(*one) for one in passages]
    spans = copied_spans(train, [one.text for one in passages])
    return [
        Measured(
            of_text, sum(word in known for word in of_text), copies, loss_of(one, model, vocab)
        )
        for one, of_text, copies in zip(passages, words, spans, strict=True)
    ]


def figures(measured: Sequence[Measured], temperature: float | None) -> TextFigures:
    """The figures of several texts drawn at that temperature: counts are added up, then divided once."""
    num_chars = sum(one.loss.num_chars for one in measured)
    bigrams = [list(itertools.pairwise(one.words)) for one in measured]
    spans = [span for one in measured for span in one.spans]
    return TextFigures(
        temperature=temperature,
        num_texts=len(measured),
        num_chars=num_chars,
        known_words=_share(
            sum(one.num_known for one in measured), sum(len(one.words) for one in measured)
        ),
        distinct_bigrams=_share(sum(len(set(pairs)) for pairs in bigrams), sum(map(len, bigrams))),
        longest_copied=max(
            (span.length for span in spans if span.num_times <= MAX_TIMES), default=0
        ),
        copied=_share(
            sum(covered(span for span in one.spans if span.is_copied) for one in measured),
            num_chars,
        ),
        phrases=_share(
            sum(covered(span for span in one.spans if span.is_phrase) for one in measured),
            num_chars,
        ),
        nats_per_char=_share(sum(one.loss.nats for one in measured), num_chars),
    )


def loss_of(passage: PromptedText, model: ScorableModel, vocab: Vocab) -> LossSum:
    """The loss of the text, character by character after its prompt, which is read from a zero state, unscored."""
    nats_N, _ = char_losses(model, EncodedText(vocab.encode("".join(passage))), model.zero_state(1))
    return LossSum(math.fsum(nats_N[vocab.num_ids(passage.prompt) - 1 :]), len(passage.text))


def words_of(prompt: str, text: str) -> list[str]:
    """The words, without regard to case, that begin in `text` after `prompt` and end before its end, which cuts one."""
    found = _words_in(prompt + text)
    return [
        one[0].casefold()
        for one in found
        if len(prompt) <= one.start() and one.end() < len(prompt + text)
    ]


def _words_in(text: str) -> Iterator[re.Match[str]]:
    """Runs of letters, digits and underscores of any script, and their marks, which are no letters for `re`."""
    marks = {
        one for one in set(text) if one in JOINERS or unicodedata.category(one).startswith("M")
    }
    return re.finditer(rf"[\w{re.escape(''.join(sorted(marks)))}]+", text)


def copied_spans(train: str, texts: Sequence[str], min_len: int = MIN_SPAN) -> list[list[Span]]:
    """For each text, its spans of at least `min_len` characters that `train` has, too, by their start.

    A span that is part of a longer one is left out; spans may overlap otherwise.
    """
    # The places in the training text of each window of the texts: spans grow from there.
    places: dict[str, list[int]] = {
        text[start : start + min_len]: []
        for text in texts
        for start in range(len(text) - min_len + 1)
    }
    for start in range(len(train) - min_len + 1 if places else 0):
        if (window := train[start : start + min_len]) in places:
            places[window].append(start)
    return [_spans_of(text, train, places, min_len) for text in texts]


def _spans_of(text: str, train: str, places: dict[str, list[int]], min_len: int) -> list[Span]:
    """From left to right: the first window that ends behind the span before, grown to the left, then to the right."""
    spans, end = list[Span](), 0
    for window in range(len(text) - min_len + 1):
        found = places[text[window : window + min_len]]
        if window + min_len <= end or not found:
            continue
        start, end = window, window + min_len
        while start > 0 and (
            longer := _going_on(text[start - 1], train, found, start - 1 - window)
        ):
            start, found = start - 1, longer
        while end < len(text) and (longer := _going_on(text[end], train, found, end - window)):
            end, found = end + 1, longer
        spans.append(Span(start, end - start, found[0] + start - window, len(found)))
    return spans


def _going_on(character: str, train: str, places: list[int], offset: int) -> list[int]:
    """The places that have the character at that offset."""
    return [
        one for one in places if 0 <= one + offset < len(train) and train[one + offset] == character
    ]


def covered(spans: Iterable[Span]) -> int:
    """How many characters of a text are in one of its spans."""
    return len(set().union(*(range(one.start, one.start + one.length) for one in spans)))


def _share(part: float, whole: float) -> float | None:
    """Rounded, so that the last bits of a sum decide nothing."""
    return round(part / whole, 4) if whole and math.isfinite(part) else None

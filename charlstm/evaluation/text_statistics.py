"""Statistics of generated and held-out texts: words, repetition, copied spans, the model's loss.

All counts are in characters, even for a byte model.
"""

import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from charlstm.evaluation.results import TextFigures
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.protocols import LossSum, char_losses
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab

# Number of training characters that are searched for copied spans and known words.
# A search of that length takes half a minute on one core.
MAX_SEARCHED = 100_000_000
MIN_SPAN = 12  # characters; shorter spans are common in any text
# A span of at least 30 characters is a copy if it occurs in the training text once or twice.
# Spans of 30 cover under 1 % of the last tenth of Shakespeare, War and Peace or Dickens.
# Spans of 20 would cover up to 14 % of these texts, although nothing in them is copied.
# Many spans of 20 are two phrases that happen to be adjacent: a speaker's name and "I will".
# In texts of a model that had memorized its training text, spans of 30 covered 79 to 100 %.
# With spans of 20, the share in these texts was only a little higher.
MIN_COPIED = 30
MAX_TIMES = 2
MIN_PHRASE = 20  # characters; a span that occurs more than MAX_TIMES times is a phrase
JOINERS = "\u200c\u200d"  # parts of words in Persian and Indian scripts


class PromptedText(NamedTuple):
    """A prompt of at least one character, and the text that follows the prompt."""

    prompt: str
    text: str


class Span(NamedTuple):
    """A span of a text that also occurs in the training text."""

    start: int
    """Index of the first character in the text."""
    length: int
    train_start: int
    """Index of the first occurrence in the training text."""
    num_times: int
    """Number of occurrences in the training text."""

    @property
    def is_copied(self) -> bool:
        """True if the span is long and rare enough to count as a copy of the training text."""
        return self.length >= MIN_COPIED and self.num_times <= MAX_TIMES

    @property
    def is_phrase(self) -> bool:
        """True if the span is a frequent phrase of the corpus, such as a speaker's name."""
        return self.length >= MIN_PHRASE and self.num_times > MAX_TIMES


class Measured(NamedTuple):
    """The words, the copied spans and the loss of one text."""

    words: list[str]
    num_known: int
    """Number of words that also occur in the training text."""
    spans: list[Span]
    loss: LossSum


def held_out(val: str, like: Sequence[PromptedText]) -> list[PromptedText]:
    """Return evenly spaced passages of `val`, each as long as the corresponding text in `like`.

    A passage is shorter only if all of `val` is shorter than the corresponding text.
    """
    passages = []
    for index, model_text in enumerate(like):
        size = min(len(model_text.prompt) + len(model_text.text), len(val))
        start = (len(val) - size) * (2 * index + 1) // (2 * len(like))
        cut = start + min(len(model_text.prompt), size - 1)
        passages.append(PromptedText(val[start:cut], val[cut : start + size]))
    return passages


def measure(
    passages: Sequence[PromptedText], train: str, model: CharLSTM, vocab: Vocab
) -> list[Measured]:
    """Measure each passage's text: its words, its copied spans and its loss.

    `train` is the beginning of the training text, at most `MAX_SEARCHED` characters.
    """
    known = {match[0].casefold() for match in _words_in(train)}
    spans = copied_spans(train, [passage.text for passage in passages])
    measured = []
    for passage, copies in zip(passages, spans, strict=True):
        words = words_of(*passage)
        num_known = sum(word in known for word in words)
        measured.append(Measured(words, num_known, copies, loss_of(passage, model, vocab)))
    return measured


def figures(measured: Sequence[Measured], temperature: float | None) -> TextFigures:
    """Return the statistics of several texts together, computed from their total counts.

    `temperature` is the same for all texts, and None for held-out text.
    """
    num_chars = sum(one.loss.num_chars for one in measured)
    num_words = sum(len(one.words) for one in measured)
    bigrams = [list(itertools.pairwise(one.words)) for one in measured]
    spans = [span for one in measured for span in one.spans]
    copied = [covered(span for span in one.spans if span.is_copied) for one in measured]
    phrases = [covered(span for span in one.spans if span.is_phrase) for one in measured]
    return TextFigures(
        temperature=temperature,
        num_texts=len(measured),
        num_chars=num_chars,
        known_words=_share(sum(one.num_known for one in measured), num_words),
        distinct_bigrams=_share(sum(len(set(pairs)) for pairs in bigrams), sum(map(len, bigrams))),
        longest_copied=max(
            (span.length for span in spans if span.num_times <= MAX_TIMES), default=0
        ),
        copied=_share(sum(copied), num_chars),
        phrases=_share(sum(phrases), num_chars),
        nats_per_char=_share(sum(one.loss.nats for one in measured), num_chars),
    )


def loss_of(passage: PromptedText, model: CharLSTM, vocab: Vocab) -> LossSum:
    """Return the model's loss on a passage's text, given the passage's prompt.

    The model reads the prompt from a zero state. The prompt itself is not scored.
    """
    nats_N, _ = char_losses(model, EncodedText(vocab.encode("".join(passage))), model.zero_state(1))
    return LossSum(math.fsum(nats_N[vocab.num_ids(passage.prompt) - 1 :]), len(passage.text))


def words_of(prompt: str, text: str) -> list[str]:
    """Return the case-folded words of `text`, which follows `prompt`.

    A word that begins in the prompt is skipped. A word at the very end is skipped, too, because it
    may be cut.
    """
    whole = prompt + text
    return [
        match[0].casefold()
        for match in _words_in(whole)
        if len(prompt) <= match.start() and match.end() < len(whole)
    ]


def _words_in(text: str) -> Iterator[re.Match[str]]:
    """Yield runs of letters, digits and underscores in any script, with their combining marks."""
    # The module `re` does not treat combining marks as word characters.
    marks = sorted(
        character
        for character in set(text)
        if character in JOINERS or unicodedata.category(character).startswith("M")
    )
    return re.finditer(rf"[\w{re.escape(''.join(marks))}]+", text)


def copied_spans(train: str, texts: Sequence[str], min_len: int = MIN_SPAN) -> list[list[Span]]:
    """Return each text's spans of at least `min_len` characters that also occur in `train`.

    Spans are sorted by start. They may overlap, but no span lies within another span.
    """
    # Where each window of `min_len` characters occurs in the training text. A span starts there.
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
    """Return the spans of one text that also occur in `train`, from left to right.

    Each span starts as the first matching window that ends after the previous span. The span grows
    to the left, then to the right, while any occurrence in the training text matches.
    """
    spans: list[Span] = []
    end = 0
    for window in range(len(text) - min_len + 1):
        found = places[text[window : window + min_len]]
        if window + min_len <= end or not found:
            continue
        start = window
        end = window + min_len
        while start > 0 and (
            longer := _matching(text[start - 1], train, found, start - 1 - window)
        ):
            start -= 1
            found = longer
        while end < len(text) and (longer := _matching(text[end], train, found, end - window)):
            end += 1
            found = longer
        spans.append(Span(start, end - start, found[0] + start - window, len(found)))
    return spans


def _matching(character: str, train: str, places: list[int], offset: int) -> list[int]:
    """Return each place in `places` for which `train[place + offset]` is `character`."""
    return [
        place
        for place in places
        if 0 <= place + offset < len(train) and train[place + offset] == character
    ]


def covered(spans: Iterable[Span]) -> int:
    """Return how many characters of a text are in at least one of its spans."""
    return len(set().union(*(range(span.start, span.start + span.length) for span in spans)))


def _share(part: float, whole: float) -> float | None:
    """Return `part / whole` to four decimals, so that the order of summation does not matter."""
    return round(part / whole, 4) if whole and math.isfinite(part) else None

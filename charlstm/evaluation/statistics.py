"""Figures about texts after prompts, generated or held out, and what a model makes of them.

Shapes: B passages of one size, T time steps, V vocabulary.
"""

import itertools
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from charlstm.evaluation.copied import Span, copied_spans, covered
from charlstm.evaluation.documents import TextFigures
from charlstm.evaluation.protocols import row_nats
from charlstm.model.loss import MAX_LOGITS_PER_FORWARD, LanguageModel, LossSum
from charlstm.text.encoded import num_chars_of
from charlstm.text.vocabulary import Ids, Unit, Vocab

MAX_ROWS = 64


class Passage(NamedTuple):
    """The ids of a prompt, at least one, and of the text after it."""

    prompt: Ids
    text: Ids


def held_out(val: Ids, like: Sequence[Passage]) -> list[Passage]:
    """Evenly spaced passages of `val`, one for each of `like`: as long as it, or as `val` where that is shorter."""
    passages = []
    for index, one in enumerate(like):
        size = min(len(one.prompt) + len(one.text), len(val))
        start = (len(val) - size) * (2 * index + 1) // (2 * len(like))
        cut = start + min(len(one.prompt), size - 1)
        passages.append(Passage(np.asarray(val[start:cut]), np.asarray(val[cut : start + size])))
    return passages


@torch.no_grad()
def text_losses(model: LanguageModel, passages: Sequence[Passage], unit: Unit = "character") -> list[LossSum]:
    """The loss of each text, character by character after its prompt, which is read from a zero state, unscored."""
    losses = [LossSum(0.0, 0)] * len(passages)
    groups = defaultdict(list)
    for index, one in enumerate(passages):
        groups[len(one.prompt), len(one.text)].append(index)
    for (num_before, _), members in groups.items():
        for start in range(0, len(members), MAX_ROWS):
            rows = members[start : start + MAX_ROWS]
            ids_BT = torch.from_numpy(np.stack([np.concatenate(passages[row]) for row in rows]).astype(np.int64))
            nats_BT = row_nats(model, ids_BT, MAX_LOGITS_PER_FORWARD)
            for row, nats in zip(rows, nats_BT[:, num_before - 1 :].sum(1).tolist(), strict=True):
                losses[row] = LossSum(nats, num_chars_of(passages[row].text, unit))
    return losses


def in_characters(vocab: Vocab, texts: Iterable[str], *parts: Ids) -> tuple[Vocab, list[Ids]]:
    """A vocabulary of characters for `texts` and for `parts`, which are ids of `vocab`; and the parts as its ids.

    So words, copied spans, lines and columns are of characters, whatever the model reads. Of a vocabulary of
    characters, all is as it was. Of bytes, the alphabet is what the texts and parts have.
    """
    if vocab.unit == "character":
        return vocab, list(parts)
    decoded = [vocab.decode(part) for part in parts]
    found = Vocab("".join(sorted(set().union(*texts, *decoded))))
    return found, [found.ids_of(part) for part in decoded]


# Figures about texts, for an eye that cannot read fifty of them: words, repetition, copying, and the model's own loss.
#
# A word is a run of letters and their marks, digits and underscores of any script, without regard to case. Words that
# a text's ends may have cut are left out.
# A span that stands in the training text once or twice is a copy from 30 characters on. The last tenths of
# Shakespeare, War and Peace and Dickens are no copies of the rest, and less than 1 % of them is in such spans. In
# those of 20 or more it is up to 14 %: two phrases that happen to stand side
# by side, e.g. a name of a speaker and "I will". A model that knew its text by heart had 79 to 100 % in those of 30,
# and little more in those of 20.

MIN_COPIED, MAX_TIMES = 30, 2
MIN_PHRASE = 20  # characters; what stands in the training text more often than MAX_TIMES is a phrase of the corpus
MAX_WORD_LEN = 1_000  # characters; a longer word is taken for unknown
CHARACTERS_AT_A_TIME = 1_000_000  # characters of the training text at a time
MAX_SEARCHED = 200_000_000  # characters of the training text, for copies and words: half a minute on one core
JOINERS = "\u200c\u200d"  # inside of words of Persian and Indian scripts


class Measured(NamedTuple):
    """The counts of one text."""

    words: list[str]
    num_known: int
    spans: list[Span]
    loss: LossSum


def measure(
    passages: Sequence[Passage], train: Ids, vocab: Vocab, model: LanguageModel, model_vocab: Vocab
) -> list[Measured]:
    """Count in each passage's text; one pass over the training ids for words, and two for copied spans.

    Of a huge training text, only the first MAX_SEARCHED ids are searched. All ids are of `vocab`; the model reads
    the texts as ids of its own, `model_vocab`.
    """
    train = train[:MAX_SEARCHED]
    words = [words_of(vocab.decode(one.prompt), vocab.decode(one.text)) for one in passages]
    known = known_words(set(itertools.chain.from_iterable(words)), train, vocab)
    spans = copied_spans(train, [one.text for one in passages])
    if model_vocab is not vocab:
        passages = [Passage(*(model_vocab.encode(vocab.decode(part)) for part in one)) for one in passages]
    losses = text_losses(model, passages, model_vocab.unit)
    return [
        Measured(of_text, sum(word in known for word in of_text), copies, loss)
        for of_text, copies, loss in zip(words, spans, losses, strict=True)
    ]


def figures(measured: Sequence[Measured], temperature: float | None) -> TextFigures:
    """The figures of several texts drawn at that temperature: counts are added up, then divided once."""
    num_chars = sum(one.loss.num_chars for one in measured)
    bigrams = [list(itertools.pairwise(one.words)) for one in measured]
    return TextFigures(
        temperature=temperature,
        num_texts=len(measured),
        num_chars=num_chars,
        known_words=_share(sum(one.num_known for one in measured), sum(len(one.words) for one in measured)),
        distinct_bigrams=_share(sum(len(set(pairs)) for pairs in bigrams), sum(map(len, bigrams))),
        longest_copied=max(
            (span.length for one in measured for span in one.spans if span.num_times <= MAX_TIMES), default=0
        ),
        copied=_share(sum(covered(filter(is_copied, one.spans)) for one in measured), num_chars),
        phrases=_share(sum(covered(filter(is_phrase, one.spans)) for one in measured), num_chars),
        nats_per_char=_share(sum(one.loss.nats for one in measured), num_chars),
    )


def is_copied(span: Span) -> bool:
    """Whether a span is so long and so rare in the training text that it is copied from there."""
    return span.length >= MIN_COPIED and span.num_times <= MAX_TIMES


def is_phrase(span: Span) -> bool:
    """Whether a span is a phrase of the corpus, e.g. who speaks and how speeches begin."""
    return span.length >= MIN_PHRASE and span.num_times > MAX_TIMES


def word_of(characters: Iterable[str]) -> re.Pattern[str]:
    """What a word of these characters is. For `re`, vowel signs and points, as Hindi has them, are no letters."""
    marks = {one for one in set(characters) if one in JOINERS or unicodedata.category(one).startswith("M")}
    return re.compile(rf"[\w{re.escape(''.join(sorted(marks)))}]+")


def words_of(prompt: str, text: str) -> list[str]:
    """The words that begin in `text`, where it follows `prompt`, and end before its end."""
    both = prompt + text
    word = word_of(both)
    found = word.finditer(both, _last_word_start(prompt, word))
    return [one[0].casefold() for one in found if len(prompt) <= one.start() and one.end() < len(both)]


def known_words(words: set[str], train: Ids, vocab: Vocab) -> set[str]:
    """The `words` that are in the training text; reads no further than needed, and keeps no other words.

    `vocab` is of characters, as `in_characters` makes it.
    """
    asked = {word for word in words if len(word) <= MAX_WORD_LEN}
    missing, rest, start, word = set(asked), "", 0, word_of(vocab.characters)
    while missing and start < len(train):
        piece = rest + vocab.decode(train[start : start + CHARACTERS_AT_A_TIME])
        start += CHARACTERS_AT_A_TIME
        is_last = start >= len(train)  # if not, the word may go on in the next piece
        cut = len(piece) if is_last else _last_word_start(piece, word)
        missing -= {one.casefold() for one in word.findall(piece[:cut])}
        rest = piece[cut:][-MAX_WORD_LEN - 1 :]  # of a word that is too long, enough to tell
    return asked - missing


def _last_word_start(text: str, word: re.Pattern[str]) -> int:
    """The start of the word that `text` ends with; the text's length if it ends with none."""
    start = len(text)
    while start > 0 and word.match(text[start - 1]):
        start -= 1
    return start


def _share(part: float, whole: float) -> float | None:
    """Rounded, so that the last bits of a sum decide nothing."""
    return round(part / whole, 4) if whole and math.isfinite(part) else None

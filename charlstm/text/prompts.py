"""Prompts that `sample.prompts: auto` takes from the validation part."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from charlstm.errors import TextRequestError, VocabularyError
from charlstm.sampling import short, unknown_rule
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import UNSEEN, Ids, Vocab, describe

NUM_BEGINNINGS = 3
MAX_LEN = 12  # characters
MAX_READ = 100_000  # ids to read from the beginning of the validation part
LINE_END = "\n"


def resolve_prompts(
    prompts: tuple[str, ...] | Literal["auto"], val_ids: Ids, vocab: Vocab
) -> tuple[str, ...]:
    """Return `prompts`, or distinct prompts from the validation part if `prompts` is `auto`.

    The prompts are a line break, if the vocabulary has this character, and the beginnings of three
    lines, spread over the first 100,000 ids. If there are too few lines, beginnings of words or
    pieces of equal length are used. A beginning has up to 12 characters, ends with a word if the
    line has spaces, and consists of characters in the vocabulary. The result depends only on the
    ids and the vocabulary, and has at least one prompt.
    """
    if prompts != "auto":
        return prompts
    text = vocab.decode(EncodedText(val_ids, vocab.unit).first(MAX_READ).ids)
    line_end = [] if vocab.unknown(LINE_END) else [LINE_END]
    beginnings = _beginnings(text)
    num_lines = len(beginnings)
    # Take the first beginning in each third of the list, or all if there are fewer than three.
    spread = [beginnings[num_lines * third // 3] for third in range(3) if beginnings]
    any_character = next((one for one in text if one != UNSEEN), vocab.characters[:1] or LINE_END)
    return tuple(dict.fromkeys(line_end + spread)) or (any_character,)


def _beginnings(text: str) -> list[str]:
    """Return beginnings of lines. If there are too few lines, begin at words or equal distances."""
    word_starts = (match.start() for match in re.finditer(r"(?<=\s)\S", text))
    candidates = [
        _distinct(text.splitlines()[1:], 2),  # the first line may be incomplete
        _distinct((text[start : start + 2 * MAX_LEN] for start in word_starts), 2),
        _distinct((text[at : at + MAX_LEN] for at in range(0, len(text), MAX_LEN)), 1),
    ]
    are_enough = (found for found in candidates if len(found) >= NUM_BEGINNINGS)
    return next(are_enough, max(candidates, key=len))


def _distinct(texts: Iterable[str], min_len: int) -> list[str]:
    """Return the distinct beginnings of the texts. Skip those that are short or have U+FFFD."""
    cut = (_cut(lines[0]) for text in texts if (lines := text.strip().splitlines()))
    return list(dict.fromkeys(one for one in cut if len(one) >= min_len and UNSEEN not in one))


def _cut(line: str) -> str:
    """Cut a line to at most MAX_LEN characters, at the end of a word if possible."""
    if len(line) <= MAX_LEN:
        return line
    return line[: MAX_LEN + 1].rpartition(" ")[0].rstrip() or line[:MAX_LEN]


def check_prompts(vocab: Vocab, prompts: Sequence[str], name: str) -> None:
    """Raise VocabularyError for the first prompt that is empty or has unknown characters.

    `name` is the parameter that has the prompts. The message begins with it.
    """
    for index, prompt in enumerate(prompts):
        where = f"{name}[{index}]"
        if not prompt:
            raise VocabularyError(
                f"{where}: the prompt is empty; it must have at least one character, e.g. a newline"
            )
        if unknown := vocab.unknown(prompt):
            lacking = f"has characters that the model never saw: {describe(unknown)}"
            raise VocabularyError(f"{where}: the prompt {prompt!r} {lacking}")


def readable(name: str, text: object, vocab: Vocab, unknown: object = "error") -> str:
    """Return the text after replacing or rejecting characters that the model does not know.

    Raises:
        TextRequestError: `text` is not a string, `unknown` is not a rule, or the rule is `error`
            and a character is unknown. The message begins with `name`.
    """
    rule = unknown_rule(unknown)
    if not isinstance(text, str):
        raise TextRequestError(f"{name}: expected a text, got {short(text)}")
    if rule == "replace":
        return replaced(text, vocab)
    if found := vocab.unknown(text):
        advice = "to replace or omit them, use --unknown replace (in Python and HTTP: `unknown`)"
        raise TextRequestError(
            f"{name}: the model never saw the characters {describe(found)}; {advice}"
        )
    return text


def replaced(text: str, vocab: Vocab) -> str:
    """Return `text` with each unknown character replaced by U+FFFD.

    Unknown characters are removed if the vocabulary lacks U+FFFD.
    """
    sign = "" if vocab.unknown(UNSEEN) else UNSEEN
    return text.translate({ord(one): sign for one in vocab.unknown(text)})


def check_stops(stops: Sequence[str], vocab: Vocab) -> None:
    """Raise TextRequestError if a stop string has a character that the model cannot generate."""
    if never := vocab.unknown("".join(stops)):
        raise TextRequestError(f"stop: the model cannot generate the characters {describe(never)}")

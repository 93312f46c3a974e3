"""Handling of characters that the model never saw."""

from collections.abc import Sequence

from charlstm.errors import TextRequestError, VocabularyError
from charlstm.sampling import short, unknown_rule
from charlstm.text.vocabulary import UNSEEN, Vocab, describe


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

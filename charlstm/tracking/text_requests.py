"""What a user of the MLflow model asks for: one row, one text. Rows are checked here, before the model sees them.

Each mistake is one line that says in which row it is, what was expected and what came.
"""

from collections.abc import Mapping, Sequence

from charlstm.errors import TextRequestError
from charlstm.sampling import Rule, Sampling, checked_number, short
from charlstm.text.vocabulary import Vocab, describe

MAX_ROWS = 100
MAX_CHARS = 100_000  # of all rows together, prompts included: at most about 20 s on a CPU
NUM_CHARS = Rule(f"a whole number from 1 to {MAX_CHARS:,}", True, lambda value: 1 <= value <= MAX_CHARS)


KEYS = ("prompt", *Sampling._fields)


def parse_requests(rows: Sequence[Mapping[str, object]], vocab: Vocab) -> list[tuple[str, Sampling]]:
    """Prompts, and how to go on from each, checked. None counts as not given, as an empty cell of a table does.

    Raises:
        TextRequestError: the first mistake: an unknown key, no prompt, a value of another type or out of range, a
            character that the model never saw, or more rows or characters than one call may ask for.
    """
    if not rows or len(rows) > MAX_ROWS:
        raise TextRequestError(f"expected 1 to {MAX_ROWS} rows, got {len(rows)}")
    requests = [_parse(f"row {number}", row, vocab) for number, row in enumerate(rows, 1)]
    if (total := sum(len(prompt) + sampling.num_chars for prompt, sampling in requests)) > MAX_CHARS:
        raise TextRequestError(
            f"expected at most {MAX_CHARS:,} characters in all rows together, prompts included, got {total:,}; "
            f"ask for less at a time"
        )
    return requests


def _parse(where: str, row: Mapping[str, object], vocab: Vocab) -> tuple[str, Sampling]:
    for key in row:
        if key not in KEYS:
            raise TextRequestError(f"{where}: unknown key {short(key)}; known are {', '.join(KEYS)}")
    given = {key: value for key, value in row.items() if value is not None}
    prompt = _prompt(where, given.pop("prompt", None), vocab)
    try:
        if "num_chars" in given:
            checked_number("num_chars", given["num_chars"], NUM_CHARS)
        sampling = Sampling.checked(**given)
    except TextRequestError as error:
        raise TextRequestError(f"{where}: {error}") from None
    if never := vocab.unknown("".join(sampling.stop)):
        raise TextRequestError(f"{where}: stop: the model never writes the characters {describe(never)}")
    return prompt, sampling


def _prompt(where: str, value: object, vocab: Vocab) -> str:
    if value is None:
        raise TextRequestError(f'{where}: no prompt; expected e.g. {{"prompt": "ROMEO:", "num_chars": 40}}')
    if not isinstance(value, str):
        raise TextRequestError(f"{where}: prompt: expected a text, got {short(value)}")
    if not value:
        raise TextRequestError(f"{where}: prompt: expected at least one character, e.g. a newline")
    if unknown := vocab.unknown(value):
        raise TextRequestError(f"{where}: prompt: the model never saw the characters {describe(unknown)}")
    return value

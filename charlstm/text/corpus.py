"""The corpus: one UTF-8 text, read without loss and cut into contiguous parts."""

from pathlib import Path

from charlstm.errors import CorpusError


def read_text(path: Path) -> str:
    """The whole text, newlines and all as they are.

    Raises:
        CorpusError: missing, not a file, empty, or not UTF-8 (with the offset of the first bad byte).
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file; expected a UTF-8 text (`dvc repro` makes it)") from None
    except IsADirectoryError:
        raise CorpusError(f"{path}: expected a UTF-8 text, found a folder") from None
    if not (text := decode(content, path)):
        raise CorpusError(f"{path}: expected a text, found an empty file")
    return text


def decode(content: bytes, where: object) -> str:
    """UTF-8 as a text, newlines and all as they are.

    Raises:
        CorpusError: something else; `where` begins the message.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = content[error.start]
        raise CorpusError(
            f"{where}: expected UTF-8, found byte 0x{bad:02x} at offset {error.start}; "
            f"convert it first, e.g. `iconv -f latin1 -t utf-8`"
        ) from None


def split_text(text: str, val_fraction: float) -> tuple[str, str]:
    """Cut into a training part and a validation part, the last `val_fraction` of the characters.

    Raises:
        CorpusError: a part would have fewer than 2 characters (one to read, one to guess).
    """
    cut = int(len(text) * (1 - val_fraction))
    train, val = text[:cut], text[cut:]
    if min(len(train), len(val)) < 2:
        raise CorpusError(
            f"a text of {len(text)} characters splits into {len(train)} for training and {len(val)} for validation; "
            f"each needs at least 2: take a longer text or another split.val_fraction"
        )
    return train, val

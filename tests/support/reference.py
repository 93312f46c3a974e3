"""Reference implementations of the stages from a source to ids, with the whole text in memory."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

UNSEEN = "\ufffd"


def corpus(files: Sequence[bytes], encoding: str = "utf-8", newlines: str = "keep") -> bytes:
    """Return the text of a source."""
    text = "\n".join(file.decode(encoding) for file in files)
    return (text.replace("\r\n", "\n") if newlines == "lf" else text).encode()


def split(text: str, val_fraction: float, test_fraction: float = 0.0) -> dict[str, str]:
    """Return the parts of a text."""
    num_chars = len(text)
    cuts = [int(num_chars * max(0.0, 1 - (val_fraction + test_fraction)))]
    cuts += [int(num_chars * (1 - test_fraction))] if test_fraction else []
    bounds = [0, *cuts, num_chars]
    return {
        name: text[start:end]
        for name, start, end in zip(("train", "val", "test"), bounds, bounds[1:], strict=False)
    }


def encode(parts: dict[str, str], min_count: int = 1) -> dict[str, bytes]:
    """Return the files of the encoded parts, with unseen characters replaced."""
    train = parts["train"]
    known = {one for one in train if train.count(one) >= min_count or one == UNSEEN}
    replaced = {
        name: "".join(one if one in known else UNSEEN for one in part)
        for name, part in parts.items()
    }
    characters = sorted(known.union(*replaced.values()))
    dtype = np.min_scalar_type(len(characters) - 1)
    id_of = {one: index for index, one in enumerate(characters)}
    files = {}
    for name, part in replaced.items():
        content = io.BytesIO()
        np.save(content, np.array([id_of[one] for one in part], dtype))
        files[f"{name}.npy"] = content.getvalue()
    vocabulary = json.dumps({"characters": characters}, ensure_ascii=True, indent=1) + "\n"
    return with_sums({**files, "vocab.json": vocabulary.encode()})


def with_sums(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files and a file of their checksums."""
    sums = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()
    )
    return {**files, "SHA256SUMS": sums.encode()}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}

"""What is there of the text already: its ids, if they are of the present parameters, or else its size."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from charlstm.params import Params
from charlstm.storage.files import open_regular
from charlstm.storage.yaml_files import load_yaml
from charlstm.text.byte_vocabulary import load_vocab
from charlstm.text.source_files import files_of, local_path
from charlstm.text.vocabulary import Vocab
from pipeline.common.paths import Paths

LOCK = Path("dvc.lock")
STAGES = ("download", "split", "encode")


class Encoded(NamedTuple):
    """The encoded text."""

    vocab: Vocab
    num_train: int  # characters
    num_val: int


def read_encoded(paths: Paths) -> Encoded | None:
    """What lies there; None for nothing, or for what cannot be read, which the stages say themselves."""
    try:
        vocab = load_vocab(paths.encoded / "vocab.json")
        files = [paths.encoded / name for name in ("train.npy", "val.npy")]
        for file in files:
            open_regular(file).close()  # numpy would wait for a FIFO
        sizes = [len(np.load(file, mmap_mode="r")) for file in files]
    except Exception:  # whatever numpy makes of a damaged file
        return None
    return Encoded(vocab, *sizes)


def is_of_these_parameters(*stages: str) -> bool:
    """Whether `dvc.lock` has these parameters for `stages`; without a `dvc.lock`, nobody knows better."""
    if not LOCK.exists():
        return True
    recorded, now = load_yaml(LOCK), load_yaml(Path("params.yaml"))
    return all(_params(recorded, stage) == {stage: now.get(stage)} for stage in stages)


def source_bytes(params: Params, paths: Paths) -> int | None:
    """The size of the text as it is, or as it comes: None where only a server knows."""
    path = local_path(params.download.source)
    if path is None or not path.exists():
        is_there = paths.corpus.is_file() and is_of_these_parameters("download")
        return paths.corpus.stat().st_size if is_there else None
    try:
        return sum(file.stat().st_size for file in files_of(path))
    except (OSError, ValueError):  # `source` says so
        return None


def _params(lock: Any, stage: str) -> Any:  # noqa: ANN401  # a YAML document
    try:
        return lock["stages"][stage]["params"]["params.yaml"]
    except (KeyError, TypeError):
        return None

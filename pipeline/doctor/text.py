"""Checks of the text: its source, its length, and the characters of prompts, by its ids if they are there already."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from charlstm.corpus.conversion import files_of, local_path, source_sha256
from charlstm.corpus.encodings import check_encoding
from charlstm.errors import CharlstmError
from charlstm.files.atomic import open_regular, sha256
from charlstm.files.urls import without_credentials
from charlstm.generation.prompts import faults_of
from charlstm.params import NOTHING, DownloadParams, Params
from charlstm.sections import AUTO
from charlstm.text.vocabulary import VOCAB, Vocab, load_vocab
from charlstm.training.needs import check_warmup, steps_per_epoch
from pipeline.doctor.finding import Finding, error, errors_of, warning
from pipeline.download import check_source, is_of_these_parameters, kept_text
from pipeline.dvc.paths import Paths
from pipeline.dvc.record import md5, read_lock, recorded_outputs

STAGES = ("download", "split", "encode")


class Encoded(NamedTuple):
    """The encoded text."""

    vocab: Vocab
    num_train: int  # characters


def read_encoded(paths: Paths) -> Encoded | None:
    """The encoded text that is there; None for nothing, or for what cannot be read, which the stages say themselves."""
    ids = paths.encoded / "train.npy"
    try:
        open_regular(ids).close()  # numpy would wait for a FIFO
        return Encoded(load_vocab(paths.encoded / VOCAB), len(np.load(ids, mmap_mode="r")))
    except Exception:  # whatever numpy makes of a damaged file
        return None


def is_up_to_date(params: Params, paths: Paths) -> bool:
    """Whether the encoded text is what DVC would leave as it is: of these parameters, and of the text as it is now."""
    watched = Path(params.download.watch)
    lock = read_lock()
    inputs = {Path(path): md5 for path, md5 in lock.files("deps", "download").items()} if lock else {}
    pairs = ((inputs, watched), (recorded_outputs("encode"), paths.encoded))
    return is_of_these_parameters(*STAGES) and all(
        recorded[path] == md5(path)
        for recorded, path in pairs
        if path in recorded and path.exists()  # without its text, DVC encodes nothing
    )


def source_bytes(params: Params, paths: Paths) -> int | None:
    """The size of the text as it is, or as it comes: None where only a server knows."""
    path = local_path(params.download.source)
    if path is None or not path.exists():
        is_there = paths.corpus.is_file() and is_of_these_parameters("download", but="watch")
        return paths.corpus.stat().st_size if is_there else None
    try:
        return sum(file.stat().st_size for file in files_of(path))
    except (OSError, ValueError):  # `source` says so
        return None


# The text's source: whether it is there, is what it should be, and is watched.

MAX_HASHED_BYTES = 100_000_000  # a fifth of a second


def check_text_source(params: Params, paths: Paths) -> Iterator[Finding]:
    """Faults of the text's source that `download` would refuse, or would not notice."""
    section = params.download
    yield from errors_of(lambda: check_encoding(section.encoding))
    yield from errors_of(lambda: check_source(section.source, paths))
    watched, source = Path(section.watch), local_path(section.source)
    if not watched.exists():
        yield error(
            f"download.watch: {without_credentials(section.watch)}: no such file or folder, and DVC stops there: "
            f"name the text's own path, or {NOTHING} for a text that comes from a URL or by `dvc pull`"
        )
    elif source is not None and source.exists() and not source.resolve().is_relative_to(watched.resolve()):
        yield warning(
            f"download.watch: {watched} is watched, so a change of {source} is not noticed: set it to {source}"
        )
    fallback = section.fallback
    if fallback is not None and paths.corpus.is_file() and sha256(paths.corpus) == fallback.sha256:
        yield warning(
            f"{paths.corpus} is a substitute, {fallback.requirement}, since no source gave the text that is named: "
            f"`dvc repro --force download` tries again"
        )
    is_there = paths.corpus.is_file() and is_of_these_parameters("download")  # then the source is not asked
    if source is not None and not is_there and kept_text(section, paths) is None:
        yield from _check_local(source, section)


def _check_local(source: Path, section: DownloadParams) -> Iterator[Finding]:
    try:
        files = files_of(source)
    except (OSError, ValueError) as failure:
        yield error(f"download.source: {source}: {getattr(failure, 'strerror', None) or failure}")
        return
    num_bytes = sum(file.stat().st_size for file in files)
    is_hashed = section.sha256 is not None and num_bytes <= MAX_HASHED_BYTES
    digest = source_sha256(files, section.separator) if is_hashed else section.sha256
    if num_bytes == 0:
        yield error(f"download.source: {source}: expected a text, found no byte in it")
    elif digest != section.sha256:
        yield error(
            f"download.sha256: expected {section.sha256}, but {source} has {digest}: set it to that, or to null to "
            f"accept any bytes"
        )


# Whether the text is long enough for a batch and the warm-up.


def check_length(params: Params, encoded: Encoded | None) -> Iterator[Finding]:
    """Check the length of the encoded text; before it is encoded, the train stage's launcher asks again."""
    if encoded is None:
        return
    train = params.train
    try:
        steps = steps_per_epoch(encoded.num_train, train, params.encode.unit)
        check_warmup(train.warmup_steps, train.epochs * steps, train.epochs)
    except CharlstmError as refusal:
        yield error(str(refusal))


# Whether the model will know all characters of all prompts: found out before it trains, not after.


def check_all_prompts(params: Params, encoded: Encoded | None) -> Iterator[Finding]:
    """Check the prompts against the present text; without its vocabulary, the train stage's launcher asks again."""
    if encoded is None:
        return
    if params.sample.prompts != AUTO:
        yield from (error(fault) for fault in faults_of(encoded.vocab, params.sample.prompts, "sample.prompts"))
    top_k = params.sample.top_k or 0
    if top_k > len(encoded.vocab):
        size = f"{len(encoded.vocab)} {encoded.vocab.unit}s"
        yield warning(f"sample.top_k: {top_k} has no effect: the vocabulary has {size}")

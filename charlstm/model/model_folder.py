"""The folder of a saved model: `model.safetensors`, `config.json` and `vocab.json`.

The folder is written atomically. `config.json` holds the model's sizes and the SHA-256 of the other
two files. So a folder with damaged files, or with files of different models, is detected before any
weight is used. No file is a pickle.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from charlstm.errors import CharlstmError
from charlstm.files.atomic import atomic_folder, check_regular, read_document
from charlstm.files.checksums import sha256
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import CONFIG, WEIGHTS, Implementation, ModelShape
from charlstm.text.vocabulary import VOCAB, Vocab, load_vocab

# Far above any trained weight, but so small that sums of products of two weights fit into fp32.
MAX_WEIGHT = 1e9


class TrainedModel(NamedTuple):
    """A model in evaluation mode, with its vocabulary and the hash that identifies it."""

    model: CharLSTM
    vocab: Vocab
    sha256: str  # hash of the weights file, which identifies the model


def copy_model(source: Path, target: Path) -> None:
    """Copy the files of a model folder into another folder."""
    for name in (WEIGHTS, CONFIG, VOCAB):
        shutil.copyfile(source / name, target / name)


def save_model(folder: Path, weights: dict[str, Tensor], shape: ModelShape, vocab: Vocab) -> None:
    """Write the model folder. Weights are saved in fp32, under per-gate names (see `layers.py`)."""
    on_disk = {
        name: weight.detach().to("cpu", torch.float32).contiguous()
        for name, weight in weights.items()
    }
    # Omit sizes that equal their default, so that adding a new size does not change older files.
    defaults = ModelShape._field_defaults
    sizes = {name: n for name, n in shape._asdict().items() if n != defaults.get(name)}
    with atomic_folder(folder) as temporary:
        # `save_file` is not used, because it does not raise OSError if the disk is full.
        (temporary / WEIGHTS).write_bytes(save(on_disk))
        vocab.save(temporary / VOCAB)
        hashes = {name: sha256(temporary / name) for name in (WEIGHTS, VOCAB)}
        config = json.dumps({**sizes, "sha256": hashes}, indent=2)
        (temporary / CONFIG).write_text(config + "\n", encoding="utf-8")


def load_model(folder: Path, implementation: Implementation) -> TrainedModel:
    """Load the model in `folder`, in fp32 and on the CPU.

    Raises:
        CharlstmError: a file is missing or damaged, files belong to different models, weights are
            too large or not finite, or their names, shapes or dtypes do not match `config.json`.
    """
    try:
        shape, hashes = _read_config(folder / CONFIG)
        check_regular(folder / WEIGHTS)
        check_regular(folder / VOCAB)
        found = {name: sha256(folder / name) for name in (WEIGHTS, VOCAB)}
    except OSError as error:
        raise CharlstmError(_describe_unreadable(folder, error)) from None
    for name in (WEIGHTS, VOCAB):
        if found[name] != hashes[name]:
            raise CharlstmError(
                f"{folder / name}: the file is damaged or belongs to another model: expected "
                f"SHA-256 {hashes[name]}, found {found[name]}; restore the file with `dvc "
                f"checkout` or `dvc repro train`"
            )

    vocab = load_vocab(folder / VOCAB)
    if len(vocab) != shape.vocab_size:
        raise CharlstmError(
            f"{folder}: the vocabulary has {len(vocab)} entries, but the model expects "
            f"{shape.vocab_size}; {VOCAB} and {CONFIG} belong to different models: "
            "restore the folder with `dvc checkout`"
        )
    _check_header(folder / WEIGHTS, shape)
    weights = load_file(folder / WEIGHTS)
    _check_range(folder / WEIGHTS, weights)

    # A model on the device "meta" would make torch import its compiler, which takes one second.
    # `fork_rng` leaves the caller's random state unchanged.
    with torch.random.fork_rng(devices=[]):
        model = CharLSTM(shape, implementation)
    model.load_state_dict(weights, assign=True)
    return TrainedModel(model.requires_grad_(False).eval(), vocab, hashes[WEIGHTS])


def _describe_unreadable(folder: Path, error: OSError) -> str:
    if any((folder / name).exists() for name in (CONFIG, WEIGHTS, VOCAB)):
        return f"{error.filename or folder}: cannot read the model: {error.strerror}"
    message = f"{folder}: expected a model folder, which contains {CONFIG}, {WEIGHTS} and {VOCAB}"
    for near in (folder / "model", folder.parent):
        if (near / CONFIG).exists():
            return f"{message}, but found none; did you mean {near}?"
    return f"{message}, but found none"


def _read_config(path: Path) -> tuple[ModelShape, dict[str, str]]:
    try:
        config = json.loads(read_document(path))
        shape = ModelShape(**{name: config[name] for name in ModelShape._fields if name in config})
        hashes = {name: str(config["sha256"][name]) for name in (WEIGHTS, VOCAB)}
        is_count = all(type(size) is int and size >= 0 for size in shape)
        # Only the embedding and the feed-forward block may have size 0.
        if not is_count or 0 in shape._replace(embedding_size=1, feed_forward_size=1):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CharlstmError(
            f"{path}: the file is damaged: expected a model's sizes and the hashes of its files"
        ) from None
    return shape, hashes


def _check_header(path: Path, shape: ModelShape) -> None:
    """Raise CharlstmError if the weights' names, shapes or dtypes do not match the config.

    Only the header is read, because weights of wrong sizes could fill the memory.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            found = {
                name: f"{weight.get_dtype()} {tuple(weight.get_shape())}"
                for name, weight in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise CharlstmError(f"{path}: expected a complete safetensors file ({error})") from None
    # Check the number of layers first: a huge number would make the list of expected weights huge.
    if shape.num_layers > len(found):
        raise CharlstmError(
            f"{path}: the weights do not match {CONFIG}: expected weights of "
            f"{shape.num_layers} layers, found only {len(found)} weights"
        )

    expected = {name: f"F32 {size}" for name, size in shape.weights.items()}
    wrong = [
        f"{name}: expected {expected.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        raise CharlstmError(f"{path}: the weights do not match {CONFIG}: {'; '.join(wrong[:5])}")


def _check_range(path: Path, weights: dict[str, Tensor]) -> None:
    # `> MAX_WEIGHT` would miss NaN, because every comparison with NaN is false.
    wrong = sorted(
        name for name, weight in weights.items() if not (weight.abs() <= MAX_WEIGHT).all()
    )
    if wrong:
        raise CharlstmError(
            f"{path}: expected weights from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}, but found larger "
            f"values, NaN or infinity in {', '.join(wrong[:5])}; train again with a lower "
            f"train.learning_rate"
        )

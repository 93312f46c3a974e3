"""The model folder: `model.safetensors`, `config.json` and `vocab.json`.

The folder is written whole or not at all. `config.json` holds the model's sizes and the SHA-256 of
the two other files. So a damaged or mixed-up folder is detected before any weight is used. No file
is a pickle.
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from charlstm.errors import CharlstmError
from charlstm.files.atomic import atomic_folder
from charlstm.files.checksums import sha256
from charlstm.model.char_lstm import CharLSTM, Implementation
from charlstm.model.shape import CONFIG, WEIGHTS, ModelShape
from charlstm.text.vocabulary import Vocab
from charlstm.text.vocabulary_file import VOCAB, load_vocab

# Far above trained weights, and small enough that sums of products of two weights fit into fp32.
MAX_WEIGHT = 1e9


class TrainedModel(NamedTuple):
    """A model in evaluation mode, with its vocabulary and its identity."""

    model: CharLSTM
    vocab: Vocab
    sha256: str  # of the weights file; identifies the model


def save_model(folder: Path, weights: dict[str, Tensor], shape: ModelShape, vocab: Vocab) -> None:
    """Write the model folder, with weights in fp32 under the gates' names (see `layers.py`)."""
    on_disk = {
        name: weight.detach().to("cpu", torch.float32).contiguous()
        for name, weight in weights.items()
    }
    # Omit sizes that have their default value, so that older models keep their bytes.
    defaults = ModelShape._field_defaults
    sizes = {name: n for name, n in shape._asdict().items() if n != defaults.get(name)}
    with atomic_folder(folder) as temporary:
        # Not `save_file`: on a full disk, safetensors raises an error of its own instead of
        # OSError.
        (temporary / WEIGHTS).write_bytes(save(on_disk))
        vocab.save(temporary / VOCAB)
        hashes = {name: sha256(temporary / name) for name in (WEIGHTS, VOCAB)}
        config = json.dumps({**sizes, "sha256": hashes}, indent=2)
        (temporary / CONFIG).write_text(config + "\n", encoding="utf-8")


def load_model(folder: Path, implementation: Implementation) -> TrainedModel:
    """Return the model in `folder`, in fp32 on the CPU.

    Raises:
        CharlstmError: a file is missing or damaged, files of different models are mixed, or weights
            are not finite or do not have the names, shapes and dtypes that `config.json` requires.
    """
    try:
        shape, hashes = _read_config(folder / CONFIG)
        found = {name: sha256(folder / name) for name in (WEIGHTS, VOCAB)}
    except OSError as error:
        raise CharlstmError(_describe_unreadable(folder, error)) from None
    for name in (WEIGHTS, VOCAB):
        if found[name] != hashes[name]:
            raise CharlstmError(
                f"{folder / name}: damaged, or from another model: expected SHA-256 "
                f"{hashes[name]}, found {found[name]}; restore it with `dvc checkout` or "
                f"`dvc repro train`"
            )

    vocab = load_vocab(folder / VOCAB)
    if len(vocab) != shape.vocab_size:
        raise CharlstmError(
            f"{folder}: the vocabulary has {len(vocab)} characters, the model {shape.vocab_size}; "
            f"{VOCAB} and {CONFIG} belong to different models"
        )
    _check_header(folder / WEIGHTS, shape)
    weights = load_file(folder / WEIGHTS)
    _check_range(folder / WEIGHTS, weights)

    # Not on the device "meta", for which torch imports its compiler (one second). The fork leaves
    # the caller's random numbers unchanged.
    with torch.random.fork_rng(devices=[]):
        model = CharLSTM(shape, implementation)
    model.load_state_dict(weights, assign=True)
    return TrainedModel(model.requires_grad_(False).eval(), vocab, hashes[WEIGHTS])


def _describe_unreadable(folder: Path, error: OSError) -> str:
    if any((folder / name).exists() for name in (CONFIG, WEIGHTS, VOCAB)):
        return f"{error.filename or folder}: cannot read the model: {error.strerror}"
    message = f"{folder}: expected a model, which is a folder with {CONFIG}, {WEIGHTS} and {VOCAB}"
    for near in (folder / "model", folder.parent):
        if (near / CONFIG).exists():
            return f"{message}, found none; did you mean {near}?"
    return f"{message}, found none"


def _read_config(path: Path) -> tuple[ModelShape, dict[str, str]]:
    try:
        config = json.loads(path.read_bytes())
        shape = ModelShape(**{name: config[name] for name in ModelShape._fields if name in config})
        hashes = {name: str(config["sha256"][name]) for name in (WEIGHTS, VOCAB)}
        is_count = all(type(size) is int and size >= 0 for size in shape)
        # Only these two sizes may be 0.
        if not is_count or 0 in shape._replace(embedding_size=1, feed_forward_size=1):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CharlstmError(
            f"{path}: expected the sizes and hashes of a model; the file is damaged"
        ) from None
    return shape, hashes


def _check_header(path: Path, shape: ModelShape) -> None:
    """Raise CharlstmError if names, shapes or dtypes of the weights do not fit the config.

    Only the header is read, because wrong sizes could fill the memory.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            found = {
                name: f"{weight.get_dtype()} {tuple(weight.get_shape())}"
                for name, weight in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise CharlstmError(f"{path}: not a whole safetensors file ({error})") from None
    # Checked first: the list of expected weights grows with the number of layers.
    if shape.num_layers > len(found):
        raise CharlstmError(
            f"{path}: does not fit {CONFIG}: {shape.num_layers} layers in {len(found)} weights"
        )

    expected = {name: f"F32 {size}" for name, size in shape.weights.items()}
    wrong = [
        f"{name}: expected {expected.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        raise CharlstmError(f"{path}: does not fit {CONFIG}: {'; '.join(wrong[:5])}")


def _check_range(path: Path, weights: dict[str, Tensor]) -> None:
    # Not `> MAX_WEIGHT`: NaN fails every comparison.
    wrong = sorted(
        name for name, weight in weights.items() if not (weight.abs() <= MAX_WEIGHT).all()
    )
    if wrong:
        raise CharlstmError(
            f"{path}: expected weights from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}, found larger "
            f"values, NaN or infinity in {', '.join(wrong[:5])}; train again with a lower "
            f"train.learning_rate"
        )

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
from safetensors import SafetensorError
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
    weights = _read_weights(folder / WEIGHTS, shape)
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


def _read_weights(path: Path, shape: ModelShape) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CharlstmError(f"{path}: expected a complete safetensors file ({error})") from None
    found = {name: (weight.dtype, *weight.shape) for name, weight in weights.items()}
    expected = {}
    if shape.num_layers <= len(weights):  # a huge number would make the list huge
        expected = {name: (torch.float32, *size) for name, size in shape.weights.items()}
    wrong = [name for name in found.keys() | expected if found.get(name) != expected.get(name)]
    if wrong:
        raise CharlstmError(
            f"{path}: the weights do not match {CONFIG}: {', '.join(sorted(wrong)[:5])}"
        )
    # `> MAX_WEIGHT` would miss NaN, because every comparison with NaN is false.
    wrong = [name for name, weight in weights.items() if not (weight.abs() <= MAX_WEIGHT).all()]
    if wrong:
        raise CharlstmError(
            f"{path}: expected weights from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}, but found larger "
            f"values, NaN or infinity in {', '.join(sorted(wrong)[:5])}; train again with a lower "
            f"train.learning_rate"
        )
    return weights

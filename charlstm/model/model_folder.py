"""The model folder: `model.safetensors`, `config.json`, `vocab.json`. Whole or absent, verified when read, no pickles.

`config.json` holds the model's sizes and the SHA-256 of the two other files, so a cut, damaged or mixed-up folder is
noticed before a weight is used.
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

MAX_WEIGHT = (
    1e9  # on either side of 0, far above what training makes; sums of products of two stay in fp32
)


class TrainedModel(NamedTuple):
    """A model in evaluation mode, its vocabulary, and the SHA-256 of its weights file: its name everywhere."""

    model: CharLSTM
    vocab: Vocab
    sha256: str


def save_model(folder: Path, weights: dict[str, Tensor], shape: ModelShape, vocab: Vocab) -> None:
    """Write the folder; weights in fp32 under the gates' names (see `layers.py`)."""
    with atomic_folder(folder) as temporary:
        on_disk = {
            name: weight.detach().to("cpu", torch.float32).contiguous()
            for name, weight in weights.items()
        }
        (temporary / WEIGHTS).write_bytes(
            save(on_disk)
        )  # safetensors' own error for a full disk is no OSError
        vocab.save(temporary / VOCAB)
        hashes = {name: sha256(temporary / name) for name in (WEIGHTS, VOCAB)}
        # A size that models had not always is written only where it is used: others keep their bytes.
        sizes = {
            name: size
            for name, size in shape._asdict().items()
            if size != shape._field_defaults.get(name)
        }
        config = {**sizes, "sha256": hashes}
        (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_model(folder: Path, implementation: Implementation) -> TrainedModel:
    """The model in `folder`, in fp32 on the CPU.

    Raises:
        CharlstmError: a file is missing or damaged, files of different models are mixed, weights do not have the
            names, shapes and dtypes that `config.json` asks for, or they are not finite.
    """
    for name in (CONFIG, WEIGHTS, VOCAB):
        if (folder / name).exists() and not (folder / name).is_file():
            raise CharlstmError(f"{folder / name}: expected a file")  # a FIFO would be waited for
    try:
        shape, hashes = _read_config(folder / CONFIG)
        found = {name: sha256(folder / name) for name in (WEIGHTS, VOCAB)}
    except OSError as error:
        if not any((folder / name).exists() for name in (CONFIG, WEIGHTS, VOCAB)):
            near = [
                f"; did you mean {one}?"
                for one in (folder / "model", folder.parent)
                if (one / CONFIG).exists()
            ]
            expected = f"expected a model, which is a folder with {CONFIG}, {WEIGHTS} and {VOCAB}"
            raise CharlstmError(f"{folder}: {expected}, found none{''.join(near[:1])}") from None
        raise CharlstmError(
            f"{error.filename or folder}: cannot read the model: {error.strerror}"
        ) from None
    for name in (WEIGHTS, VOCAB):
        if found[name] != hashes[name]:
            raise CharlstmError(
                f"{folder / name}: damaged, or of another model: expected SHA-256 {hashes[name]}, found {found[name]}; "
                f"`dvc checkout` or `dvc repro train` restores it"
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
    with torch.random.fork_rng(
        devices=[]
    ):  # on the device "meta", torch imports its compiler, which takes a second
        model = CharLSTM(shape, implementation)
    model.load_state_dict(weights, assign=True)
    return TrainedModel(model.requires_grad_(False).eval(), vocab, hashes[WEIGHTS])


def _read_config(path: Path) -> tuple[ModelShape, dict[str, str]]:
    try:
        config = json.loads(path.read_bytes())
        shape = ModelShape(**{name: config[name] for name in ModelShape._fields if name in config})
        hashes = {name: str(config["sha256"][name]) for name in (WEIGHTS, VOCAB)}
        is_count = all(type(size) is int and 0 <= size < 2**63 for size in shape)
        if not is_count or 0 in shape._replace(embedding_size=1, feed_forward_size=1):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CharlstmError(
            f"{path}: expected the sizes and hashes of a model; the file is damaged"
        ) from None
    return shape, hashes


def _check_header(path: Path, shape: ModelShape) -> None:
    """Check the sizes before a module is built or a weight is read: false ones could take all memory."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            found = {
                name: f"{one.get_dtype()} {tuple(one.get_shape())}" for name, one in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise CharlstmError(f"{path}: not a whole safetensors file ({error})") from None
    if shape.num_layers > len(found):
        raise CharlstmError(
            f"{path}: does not fit {CONFIG}: {shape.num_layers} layers in {len(found)} weights"
        )
    expected = {name: f"F32 {size}" for name, size in shape.weights.items()}
    pairs = [
        (name, expected.get(name), found.get(name))
        for name in sorted(found.keys() | expected.keys())
    ]
    wrong = [
        f"{name}: expected {want or 'nothing'}, found {have or 'nothing'}"
        for name, want, have in pairs
        if want != have
    ]
    if wrong:
        raise CharlstmError(f"{path}: does not fit {CONFIG}: {'; '.join(wrong[:5])}")


def _check_range(path: Path, weights: dict[str, Tensor]) -> None:
    if wrong := [
        name for name, weight in weights.items() if not (weight.abs() <= MAX_WEIGHT).all()
    ]:
        raise CharlstmError(
            f"{path}: expected weights from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}, found larger ones, NaN or infinity in "
            f"{', '.join(sorted(wrong)[:5])}; train again with a lower train.learning_rate"
        )

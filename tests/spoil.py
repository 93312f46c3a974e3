"""What can be wrong with the files of a project."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.projects import Override, write_params
from charlstm.files.atomic import sha256
from charlstm.files.checksums import read_sums, sums_of, write_sums

Spoil = Callable[[Path], object]
CORPUS, IDS, MODEL = "Datasets/shakespear.txt", "Datasets/encoded/train.npy", "artifacts/model"


def replace(name: str, old: str, new: str) -> Spoil:
    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return spoil


def param(name: str, value: object) -> Spoil:
    """Another value for one parameter, by dotted name."""
    return lambda folder: write_params(folder, {name: value})


def several(values: Override) -> Spoil:
    return lambda folder: write_params(folder, values)


def write(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def as_downloaded(content: bytes) -> Spoil:
    """The corpus, with checksums to match: what a source gave."""

    def spoil(folder: Path) -> None:
        (folder / CORPUS).write_bytes(content)
        write_sums(sums_of(folder / CORPUS), ["shakespear.txt"])

    return spoil


def resummed(spoil_first: Spoil) -> Spoil:
    """Spoiled when it was encoded, not since."""

    def spoil(folder: Path) -> None:
        spoil_first(folder)
        write_sums(folder / "Datasets/encoded/SHA256SUMS", ["train.npy", "val.npy", "vocab.json"])

    return spoil


def own_file(name: str, source: str | None = None) -> Spoil:
    """Somebody's only copy of a text; `source` names it."""

    def spoil(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("the only copy")
        if source:
            write_params(folder, {"download.source": source})

    return spoil


def remove(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Spoil:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-7])


def folder_instead(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


def loud_weights(folder: Path) -> None:
    """Finite, but far from any model: each loss is a number, and its perplexity is none."""
    path = folder / "artifacts/model/model.safetensors"
    weights = load_file(path)
    weights["head.bias"] = torch.linspace(0, 1e6, len(weights["head.bias"]))
    save_file(weights, path)
    rehash_model(folder)


def nan_weights(folder: Path) -> None:
    path = folder / "artifacts/model/model.safetensors"
    save_file({name: weight * float("nan") for name, weight in load_file(path).items()}, path)
    rehash_model(folder)


def rehash_model(folder: Path) -> None:
    """Written like that, not damaged since."""
    path = folder / "artifacts/model/config.json"
    config = json.loads(path.read_text())
    config["sha256"] = {name: sha256(path.with_name(name)) for name in config["sha256"]}
    path.write_text(json.dumps(config))
    sums = folder / "artifacts/train/SHA256SUMS"
    write_sums(sums, read_sums(sums))


def bigger_vocabulary(folder: Path) -> None:
    path = folder / "artifacts/model/vocab.json"
    path.write_text(json.dumps({"characters": [*json.loads(path.read_text())["characters"], "☃"]}))


def drop_encoded_character(folder: Path) -> None:
    path = folder / "Datasets/encoded/vocab.json"
    path.write_text(json.dumps({"characters": json.loads(path.read_text())["characters"][:-1]}))

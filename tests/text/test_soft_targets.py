"""Distributions as bytes, in parts on the disk."""

import json
from pathlib import Path

import numpy as np
import pytest

from charlstm.errors import ChecksumError, EncodedError
from charlstm.files.checksums import SUMS, write_sums
from charlstm.text.soft_targets import (
    DISTRIBUTIONS,
    FILES,
    IDS,
    PROBABILITIES,
    TEACHERS,
    SoftTargets,
    load_soft_targets,
    quantize_log_probabilities,
)
from charlstm.text.vocabulary import VOCAB, Vocab

ALPHABET = Vocab("abcdefg")
V = len(ALPHABET)


def write_part(folder: Path, num_chars: int, seed: int, teachers: str = "a") -> None:
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    np.save(folder / IDS, generator.integers(V, size=num_chars).astype(np.uint8))
    np.save(folder / DISTRIBUTIONS, generator.integers(256, size=(num_chars, V)).astype(np.uint8))
    (folder / TEACHERS).write_text(json.dumps([teachers]))
    ALPHABET.save(folder / VOCAB)
    write_sums(folder / SUMS, FILES)


def test_a_code_is_within_a_thirty_second_of_a_nat() -> None:
    logs = np.log(np.random.default_rng(0).dirichlet(np.full(V, 0.3), size=500)).astype(np.float32)
    logs = np.maximum(logs, -15.9)
    found = np.log(PROBABILITIES[quantize_log_probabilities(logs)])
    assert np.abs(found - logs).max() <= 1 / 32 + 1e-5
    assert abs((found - logs).mean()) < 2e-3  # as often up as down
    assert quantize_log_probabilities(np.array([0.0, -np.inf, -99.0], np.float32)).tolist() == [0, 255, 255]


def test_parts_are_one_text(tmp_path: Path) -> None:
    for name, (num_chars, seed) in {"1": (20, 1), "2": (30, 2), "10": (10, 3)}.items():
        write_part(tmp_path / name, num_chars, seed)
    text = load_soft_targets(tmp_path, ALPHABET)
    order = ["1", "10", "2"]
    ids = np.concatenate([np.load(tmp_path / name / IDS) for name in order])
    quantized_NV = np.concatenate([np.load(tmp_path / name / DISTRIBUTIONS) for name in order])
    assert np.array_equal(text.ids, ids)
    positions = np.random.default_rng(0).integers(60, size=(4, 9))
    assert np.array_equal(text.quantized_at(positions), quantized_NV[positions])
    assert text.quantized_at(positions[:0]).shape == (0, 9, V)


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncodedError, match="dvc repro"):
        load_soft_targets(tmp_path, ALPHABET)
    write_part(tmp_path / "1", 20, 1)
    with pytest.raises(EncodedError, match="alphabet is not that of the text"):  # as large, but each id means another
        load_soft_targets(tmp_path, Vocab("bcdefgh"))
    write_part(tmp_path / "2", 20, 2)
    np.save(tmp_path / "2" / DISTRIBUTIONS, np.zeros((20, V + 1), np.uint8))
    write_sums(tmp_path / "2" / SUMS, FILES)
    with pytest.raises(EncodedError, match=r"expected uint8 \(20, 7\), found uint8 \(20, 8\)"):
        load_soft_targets(tmp_path, ALPHABET)
    write_part(tmp_path / "3", 20, 2, teachers="b")
    with pytest.raises(EncodedError, match="different teachers"):
        load_soft_targets(tmp_path, ALPHABET)
    content = bytearray((tmp_path / "1" / DISTRIBUTIONS).read_bytes())
    content[-1] ^= 1
    (tmp_path / "1" / DISTRIBUTIONS).write_bytes(content)
    with pytest.raises(ChecksumError, match="damaged"):
        load_soft_targets(tmp_path, ALPHABET)


def test_it_has_the_parts_that_parameters_name_or_none(tmp_path: Path) -> None:
    """What lies there of former parameters, or is not there yet, must not change what a student learns from."""
    for number in (1, 2):
        write_part(tmp_path / str(number), 20, number)
    assert len(load_soft_targets(tmp_path, ALPHABET, (2, 1)).ids) == 40
    for number, parts in ((3, (1, 2, 3)), (2, (1,))):
        with pytest.raises(EncodedError, match=f"teachers.parts: part {number} is missing .*, or"):
            load_soft_targets(tmp_path, ALPHABET, parts)


def test_a_text_can_lie_in_memory() -> None:
    quantized_NV = np.arange(5 * V, dtype=np.uint8).reshape(5, V)
    text = SoftTargets([np.zeros(5, np.uint8)], [quantized_NV])
    assert np.array_equal(text.quantized_at(np.array([4, 0])), quantized_NV[[4, 0]])

"""Model folders: read by both implementations, reproducible, and refused if damaged."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from charlstm.errors import CharlstmError
from charlstm.files.checksums import sha256
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.model_folder import load_model, save_model
from charlstm.model.shape import CONFIG, WEIGHTS, ModelShape
from charlstm.text.vocabulary import VOCAB, Vocab

SHAPE = ModelShape(vocab_size=3, embedding_size=2, hidden_size=4, num_layers=2, feed_forward_size=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path / "model", CharLSTM(SHAPE, "gates").state_dict(), SHAPE, Vocab("abc"))
    return tmp_path / "model"


def test_either_implementation_loads_it(folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == {WEIGHTS, CONFIG, VOCAB}
    ids_BT = torch.tensor([[0, 1, 2, 1]])
    gates, fused = (load_model(folder, implementation) for implementation in ("gates", "fused"))
    torch.testing.assert_close(gates.model(ids_BT)[0], fused.model(ids_BT)[0])
    assert gates.vocab == Vocab("abc")
    assert gates.sha256 == fused.sha256 == sha256(folder / WEIGHTS)
    assert not any(weight.requires_grad for weight in fused.model.parameters())


def test_the_same_weights_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_model(tmp_path / "again", dict(reversed(weights.items())), SHAPE, Vocab("abc"))
    for name in (WEIGHTS, CONFIG, VOCAB):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, VOCAB])
def test_missing_cut_or_flipped_files(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CharlstmError, match=f"{name}: .*damaged"):
        load_model(folder, "fused")
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    (folder / name).write_bytes(flipped)
    with pytest.raises(CharlstmError, match="damaged"):
        load_model(folder, "fused")
    (folder / name).unlink()
    with pytest.raises(CharlstmError, match=f"{name}: cannot read the model: No such file"):
        load_model(folder, "fused")


def test_no_model_at_all(folder: Path) -> None:
    expected = f"expected a model folder, .*; did you mean {folder}"
    with pytest.raises(CharlstmError, match=expected):
        load_model(folder / WEIGHTS, "fused")


def with_head(folder: Path, value: float) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["head.weight"][1, 2] = value
    save_file(weights, folder / WEIGHTS)


def with_other_weights(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["extra"] = weights.pop("head.bias")
    save_file(weights, folder / WEIGHTS)


def with_hidden_size(folder: Path, size: int) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"hidden_size": size}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: with_head(folder, math.nan), "NaN or infinity in head.weight"),
        (lambda folder: with_head(folder, -3e38), r"expected weights from -1e\+09 to 1e\+09"),
        (with_other_weights, f"the weights do not match {CONFIG}: extra, head.bias"),
        (lambda folder: with_hidden_size(folder, 10**7), f"the weights do not match {CONFIG}"),
        (
            lambda folder: Vocab("abcd").save(folder / VOCAB),
            "vocabulary has 4 entries, but the model expects 3",
        ),
        (
            lambda folder: (folder / WEIGHTS).write_bytes(b"not weights"),
            "expected a complete safetensors file",
        ),
    ],
)
def test_somebody_else_s_model_is_checked_before_it_is_used(
    folder: Path, damage: Callable[[Path], object], said: str
) -> None:
    """The hashes of the folder are correct."""
    damage(folder)
    config = json.loads((folder / CONFIG).read_text())
    config["sha256"] = {name: sha256(folder / name) for name in (WEIGHTS, VOCAB)}
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CharlstmError, match=said):
        load_model(folder, "gates")


def test_json_that_is_nested_too_deeply_is_refused(folder: Path) -> None:
    (folder / CONFIG).write_text("[" * 100_000)
    with pytest.raises(CharlstmError, match="the file is damaged"):
        load_model(folder, "gates")


@pytest.mark.parametrize("name", [CONFIG, VOCAB, WEIGHTS])
def test_a_device_or_a_pipe_in_place_of_a_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(CharlstmError, match=f"{name}: cannot read .*: it is not a regular file"):
        load_model(folder, "fused")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CharlstmError, match=f"{name}: cannot read .*: it is not a regular file"):
        load_model(folder, "fused")


def test_a_huge_document_is_refused(folder: Path) -> None:
    os.truncate(folder / CONFIG, 10**12)
    with pytest.raises(CharlstmError, match="it has more than 50,000,000 bytes"):
        load_model(folder, "fused")

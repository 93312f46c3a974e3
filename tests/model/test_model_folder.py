import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from charlstm.errors import CharlstmError
from charlstm.files.atomic import sha256
from charlstm.model.char_lstm import CharLSTM, Implementation
from charlstm.model.model_folder import load_model, save_model
from charlstm.model.shape import CONFIG, WEIGHTS, ModelShape
from charlstm.text.vocabulary import VOCAB, Vocab

SHAPE = ModelShape(vocab_size=3, embedding_size=2, hidden_size=4, num_layers=2, feed_forward_size=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path / "model", CharLSTM(SHAPE, "gates").state_dict(), SHAPE, Vocab("abc"))
    return tmp_path / "model"


def rehash(folder: Path) -> None:
    """Make the hashes fit, as a careful vandal would."""
    config = json.loads((folder / CONFIG).read_text())
    config["sha256"] = {name: sha256(folder / name) for name in (WEIGHTS, VOCAB)}
    (folder / CONFIG).write_text(json.dumps(config))


def test_either_implementation_loads_it(folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == {WEIGHTS, CONFIG, VOCAB}
    ids_BT = torch.tensor([[0, 1, 2, 1]])
    gates, fused = (load_model(folder, implementation) for implementation in ("gates", "fused"))
    torch.testing.assert_close(gates.model(ids_BT)[0], fused.model(ids_BT)[0])
    assert gates.vocab == Vocab("abc")
    assert gates.sha256 == fused.sha256 == sha256(folder / WEIGHTS)
    assert not any(weight.requires_grad for weight in fused.model.parameters())


def test_a_model_of_one_hot_characters(tmp_path: Path) -> None:
    shape = SHAPE._replace(embedding_size=0)
    model = CharLSTM(shape, "gates")
    save_model(tmp_path / "model", model.state_dict(), shape, Vocab("abc"))
    ids_BT = torch.tensor([[0, 1, 2, 1]])
    loaded = load_model(tmp_path / "model", "fused").model
    torch.testing.assert_close(loaded(ids_BT)[0], model(ids_BT)[0])


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
    (folder / name).mkdir()
    with pytest.raises(CharlstmError, match=f"{name}: cannot read the model: Is a directory"):
        load_model(folder, "fused")


def test_no_model_at_all(folder: Path) -> None:
    """As a user takes one folder for another."""
    about = "expected a model, which is a folder with config.json, model.safetensors and vocab.json, found none"
    inner = folder.rename(folder.with_name("outer")) / "inner"
    inner.mkdir()
    for where, near in ((inner, inner.parent), (inner.parent / WEIGHTS, inner.parent), (Path("nowhere"), None)):
        meant = f"; did you mean {near}?" if near else ""
        with pytest.raises(CharlstmError, match=f"^{where}: {about}{re.escape(meant)}$"):
            load_model(where, "fused")


def test_weights_of_another_model(folder: Path, tmp_path: Path) -> None:
    other = ModelShape(3, 2, 5, 2, 5)
    save_model(tmp_path / "other", CharLSTM(other, "gates").state_dict(), other, Vocab("abc"))
    shutil.copy(tmp_path / "other" / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(CharlstmError, match="damaged, or of another model: expected SHA-256"):
        load_model(folder, "fused")
    rehash(folder)
    with pytest.raises(CharlstmError, match=r"head.weight: expected F32 \(3, 4\), found F32 \(3, 5\)"):
        load_model(folder, "fused")


def test_vocabulary_of_another_size(folder: Path) -> None:
    Vocab("abcd").save(folder / VOCAB)
    rehash(folder)
    with pytest.raises(CharlstmError, match="vocabulary has 4 characters, the model 3"):
        load_model(folder, "fused")


def test_a_model_of_the_time_before_feed_forward_blocks(tmp_path: Path) -> None:
    shape = SHAPE._replace(feed_forward_size=0)
    save_model(tmp_path / "model", CharLSTM(shape, "gates").state_dict(), shape, Vocab("abc"))
    config = json.loads((tmp_path / "model" / CONFIG).read_text())
    assert "feed_forward_size" not in config
    assert load_model(tmp_path / "model", "fused").model.shape == shape
    del config["hidden_size"]
    (tmp_path / "model" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CharlstmError, match="damaged"):
        load_model(tmp_path / "model", "fused")


def test_missing_extra_and_wrongly_typed_weights_are_named(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["extra"] = weights.pop("head.bias")
    weights["embedding.weight"] = weights["embedding.weight"].double()
    save_file(weights, folder / WEIGHTS)
    rehash(folder)
    with pytest.raises(CharlstmError) as caught:
        load_model(folder, "gates")
    for part in (
        "head.bias: expected F32 (3,), found nothing",
        "extra: expected nothing, found F32 (3,)",
        "embedding.weight: expected F32 (3, 2), found F64 (3, 2)",
    ):
        assert part in str(caught.value)


def test_a_safetensors_file_that_is_none(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"not weights")
    rehash(folder)
    with pytest.raises(CharlstmError, match="not a whole safetensors file"):
        load_model(folder, "gates")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(folder: Path, bad: float) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["head.weight"][1, 2] = bad
    save_file(weights, folder / WEIGHTS)
    rehash(folder)
    with pytest.raises(CharlstmError, match="found larger ones, NaN or infinity in head.weight; train"):
        load_model(folder, "gates")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, VOCAB])
def test_what_never_ends_is_no_file_of_a_model(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(CharlstmError, match=f"{name}: cannot read the model: expected a file, found a device"):
        load_model(folder, "gates")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CharlstmError, match=f"{name}: cannot read the model: expected a file, found a FIFO"):
        load_model(folder, "gates")


@pytest.mark.parametrize("bad", [1e30, -3e38])
def test_weights_out_of_any_range_are_named(folder: Path, bad: float) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["head.weight"][1, 2] = bad
    save_file(weights, folder / WEIGHTS)
    rehash(folder)
    with pytest.raises(CharlstmError, match=r"expected weights from -1e\+09 to 1e\+09, .* in head.weight"):
        load_model(folder, "gates")


@pytest.mark.parametrize(
    "shape",
    [
        SHAPE,
        SHAPE._replace(embedding_size=0),
        SHAPE._replace(feed_forward_size=0, num_layers=3),
        ModelShape(7, 6, 5, 1, 4),
    ],
)
@pytest.mark.parametrize("implementation", ["gates", "fused"])
def test_the_shapes_of_weights_are_known_without_a_model(shape: ModelShape, implementation: Implementation) -> None:
    weights = CharLSTM(shape, implementation).state_dict()
    assert shape.weights == {name: tuple(weight.shape) for name, weight in weights.items()}


def num_digits(number: int) -> str:
    return f"{len(str(number))} digits"


@pytest.mark.parametrize("name", ["embedding_size", "hidden_size", "num_layers", "feed_forward_size"])
@pytest.mark.parametrize("size", [7, 10**7, 10**18, 10**4000], ids=num_digits)
def test_sizes_that_nobody_trained_build_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int
) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {name: size}))
    monkeypatch.setattr("charlstm.model.model_folder.CharLSTM", None)  # whoever built one would fail
    with pytest.raises(CharlstmError, match=f"does not fit {CONFIG}|{CONFIG}: expected the sizes") as caught:
        load_model(folder, "gates")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("[" * 100_000, id="deep"),
        pytest.param('{"vocab_size": ' + "9" * 5000 + "}", id="5,000 digits"),
        "[]",
        "3",
        "null",
        "NaN",
    ],
)
def test_a_config_that_is_none(folder: Path, content: str) -> None:
    (folder / CONFIG).write_text(content)
    with pytest.raises(CharlstmError, match="config.json: expected the sizes and hashes of a model; the file is"):
        load_model(folder, "gates")

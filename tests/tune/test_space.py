"""What a search may vary, and how a mistake in its file is told."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.projects import ROOT, Override
from charlstm.errors import ParamsError
from charlstm.params import Params
from pipeline.tune.space import Range, Space, read_space

Load = Callable[[str, Override], Space]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: Callable[[Path, Override], Params]) -> Load:
    """Reads a space around tiny parameters with overrides."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)

    def space(text: str, override: Override) -> Space:
        (tmp_path / "space.yaml").write_text(text)
        return read_space(Path("space.yaml"), params(tmp_path, override))

    return space


def test_what_params_yaml_has_is_always_among_it(read: Load) -> None:
    text = "train.learning_rate: {low: 0.1, high: 0.2, log: true}\nmodel.hidden_size: [8, 32]\ntrain.epochs: [1, 1]\n"
    space = read(text, {"train.learning_rate": 0.01})
    assert space.varied == {
        "train.learning_rate": Range(low=0.01, high=0.2, log=True),
        "model.hidden_size": (8, 16, 32),
    }
    assert space.base == {"train.learning_rate": 0.01, "model.hidden_size": 16}
    assert space.notes == ["train.epochs stays as it is: there is no other value for it"]


def test_a_range_around_what_params_yaml_has(read: Load) -> None:
    space = read("train.learning_rate: {times: 4}\ntrain.epochs: [1]\n", {"train.learning_rate": 0.02})
    assert space.varied["train.learning_rate"] == Range(low=0.005, high=0.08, log=True)
    space = read("model.hidden_size: {times: 1.9}\n", {})
    assert space.varied["model.hidden_size"] == Range(low=9, high=30, log=True), "16 are there, and whole numbers"


@pytest.mark.parametrize("recipe", ["quick", "best", "original"])
def test_the_space_that_is_shipped_is_one_for_every_recipe(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.projects import compose

    monkeypatch.chdir(ROOT)
    space = read_space(ROOT / "conf/tune.yaml", compose(ROOT, [f"recipe={recipe}"]))
    assert len(space.varied) >= 6
    assert [note.split()[0] for note in space.notes] == (["train.muon.learning_rate"] if recipe == "original" else [])


MISTAKES = {
    "train.learning_rat: [1]": "train.learning_rat is not a parameter, did you mean train.learning_rate?",
    "train.learning_rate: {times: 1}": "train.learning_rate.times should be greater than 1, got 1",
    "train.dropout.between_layers: {times: 2}": "train.dropout.between_layers is 0.0 in params.yaml",
    "train.epochs: {times: 1.5}": "train.epochs is 1 in params.yaml, with nothing around it: give low and high",
    "num_processes: [1, 2]": "num_processes is not a parameter",
    "split.val_fraction: [0.1, 0.2]": "split.val_fraction is not varied by a search",
    "sample.num_chars: [1]": "sample.num_chars is not varied by a search",
    "train.seed: [1, 2]": "train.seed is not varied by a search",
    "train.precision: [fp32]": "train.precision is not varied by a search",
    "train.validation_context_len: [50]": "train.validation_context_len is not varied by a search",
    "train.ema_decay: [0.5, 1.5]": "train.ema_decay should be less than 1, got 1.5",
    "train.ema_decay: {low: 0.0, high: 2}": "train.ema_decay should be less than 1, got 2",
    "train.optimizer: [sgd]": "train.optimizer should be 'adamw' or 'muon', got \"sgd\"",
    "train.epochs: [1, 2]": "train.epochs should be at most 1, as in params.yaml, got 2",
    "train.learning_rate: {low: 0.2, high: 0.1}": "train.learning_rate.low should be less than high",
    "train.learning_rate: {low: 0.0, high: 0.1, log: true}": "train.learning_rate.log needs numbers above 0",
    "train.learning_rate: {lo: 0.1, high: 0.2}": "train.learning_rate.low is missing",
    "train.learning_rate: 0.1": "train.learning_rate",
    "train.learning_rate: []": "train.learning_rate should be a list of single values",
    "train.learning_rate: [[1]]": "train.learning_rate should be a list of single values",
    "train.optimizer: {low: 1, high: 2}": 'train.optimizer is no number in params.yaml, but "muon": give a list',
    "model.hidden_size: {low: 8, high: 16.5}": "model.hidden_size should be a valid integer",
}


@pytest.mark.parametrize(("line", "message"), MISTAKES.items())
def test_a_mistake_is_one_line(read: Load, line: str, message: str) -> None:
    with pytest.raises(ParamsError) as error:
        read(f"{line}\n", {})
    assert str(error.value).startswith("space.yaml: ") and message in str(error.value)
    assert "\n" not in str(error.value)


def test_all_mistakes_are_told_at_once(read: Load) -> None:
    with pytest.raises(ParamsError) as error:
        read("split.val_fraction: [0.1]\ntrain.ema_decay: [3]\nnothing: [1]\n", {})
    assert all(name in str(error.value) for name in ("split.val_fraction", "train.ema_decay", "nothing"))


@pytest.mark.parametrize("text", ["", "[1]\n", "train.seed\n", "a: [\n"])
def test_a_file_that_has_no_parameters_is_refused(read: Load, text: str) -> None:
    with pytest.raises(ParamsError, match=r"space\.yaml"):
        read(text, {})


def test_sizes_stay_where_training_begins_from_a_model(read: Load) -> None:
    space = read("model.hidden_size: [8, 32]\ntrain.learning_rate: [0.1]\n", {"train.initial": "text.txt"})
    assert list(space.varied) == ["train.learning_rate"]
    (note,) = space.notes
    assert note.startswith("model.hidden_size stays as it is: training begins from a model")
    with pytest.raises(ParamsError, match="nothing is left to vary"):
        read("model.hidden_size: [8, 32]\n", {"train.initial": "text.txt"})


def test_what_would_do_nothing_is_left_as_it_is(read: Load) -> None:
    text = "train.muon.learning_rate: [0.1]\ntrain.dropout.between_layers: [0.1]\ntrain.learning_rate: [0.1]\n"
    plain: Override = {"train.optimizer": "adamw", "model.feed_forward_size": 0}
    assert list(read(text, plain).varied) == ["train.learning_rate"]
    assert len(read(f"{text}train.optimizer: [muon]\nmodel.num_layers: [2]\n", plain).varied) == 5
    text = "train.state_reset_probability: [0.1]\ntrain.window_stride: [7]\n"
    assert list(read(text, {"train.batching": "streams"}).varied) == ["train.state_reset_probability"]
    assert list(read(text, {"train.batching": "windows"}).varied) == ["train.window_stride"]
    assert len(read(text, {"train.batching": "sliding_windows"}).varied) == 2


def test_numbers_are_short_but_what_params_yaml_has(read: Load) -> None:
    space = read("train.learning_rate: {low: 0.01, high: 0.0123449}\n", {"train.learning_rate": 0.0111111})
    assert space.values({"train.learning_rate": 0.0111111}) == {"train.learning_rate": 0.0111111}
    assert space.values({"train.learning_rate": 0.0117777}) == {"train.learning_rate": 0.0118}
    assert space.values({"train.learning_rate": 0.01234449}) == {"train.learning_rate": 0.0123}
    narrow = read("train.learning_rate: {low: 0.01001, high: 0.01002}\n", {"train.learning_rate": 0.01001})
    assert narrow.values({"train.learning_rate": 0.010015}) == {"train.learning_rate": 0.010015}  # 0.01 is outside

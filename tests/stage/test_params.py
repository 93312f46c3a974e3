import re
from pathlib import Path
from typing import Annotated

import pytest

from benchmarks.projects import ROOT, compose, shipped_params, write_params
from charlstm.errors import ParamsError
from charlstm.params import ModelParams, Params, load_params
from charlstm.sections import Neutral
from pipeline.stage.presets import with_values

SHIPPED = shipped_params()


def load(tmp_path: Path, content: str) -> Params:
    (tmp_path / "params.yaml").write_text(content)
    return load_params(tmp_path / "params.yaml")


def test_the_shipped_file_is_valid_and_frozen(tmp_path: Path) -> None:
    load_params(ROOT / "params.yaml")  # whatever stands there by now
    params = load(tmp_path, SHIPPED)
    with pytest.raises(ValueError, match="frozen"):
        params.train.seed = 2
    flat = params.flat()
    assert flat["train.dropout.style"] == "locked"
    assert flat["sample.prompts"] == '["\\n", "ROMEO:", "To be, or not to be"]'
    assert all(isinstance(value, str | int | float) for value in flat.values())


def replaced(text: str, key: str, line: str) -> str:
    """The first `key` of the text becomes `line`."""
    changed, count = re.subn(rf"(?m)^(\s+){key}: .*$", rf"\g<1>{line}", text, count=1)
    assert count == 1
    return changed


def test_yaml_is_read_as_version_1_2(tmp_path: Path) -> None:
    text = replaced(SHIPPED, "weight_decay", "weight_decay: 4e-3")
    assert load(tmp_path, text).train.weight_decay == 0.004


def test_all_mistakes_are_told_at_once_by_name(tmp_path: Path) -> None:
    text = replaced(SHIPPED, "batch_size", "batch_sise: 32")
    text = replaced(text, "epochs", "epochs: -1")
    text = replaced(text, "hidden_size", "hidden_size: 512.5")
    text = replaced(text, "top_p", "top_p: 1.5")
    text = with_values(text, {"sample.temperatures": 0.8, "sample.seeds": [1, "2"]})
    with pytest.raises(ParamsError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    for part in (
        "train.batch_size is missing",
        "train.batch_sise is not a parameter, did you mean train.batch_size?",
        "train.epochs should be greater than 0, got -1",
        "model.hidden_size should be a valid integer, got 512.5",
        "sample.top_p should be less than or equal to 1, got 1.5",
        "sample.temperatures should be a list, got 0.8",
        'sample.seeds.1 should be a valid integer, got "2"',
    ):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the file should be a valid dictionary"),
        ("[1, 2]", "the file should be a valid dictionary"),
        ("a: [", "not valid YAML"),
        ("a: 1\na: 2", "not valid YAML.*duplicate key"),
        (
            "download: https://me:hunter2@host/text.txt",
            'download is a section, got "https://host/text.txt": set download.name',
        ),
    ],
)
def test_not_a_parameter_file(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(ParamsError, match=expected):
        load(tmp_path, content)


def test_a_parameter_that_is_off_is_in_no_fingerprint(tmp_path: Path) -> None:
    """So that one that is added, and off, leaves what was made before as it is."""
    params = load(tmp_path, SHIPPED)
    without, with_block = (
        params.model.model_copy(update={"feed_forward_size": size}).fingerprint_fields() for size in (0, 320)
    )
    assert "feed_forward_size" not in without
    assert with_block == {**without, "feed_forward_size": 320}

    class Later(ModelParams):
        num_experts: Annotated[int, Neutral(1)]

    later = Later(**params.model.model_dump(), num_experts=1)
    assert later.fingerprint_fields() == params.model.fingerprint_fields()
    assert later.model_copy(update={"num_experts": 2}).fingerprint_fields() != params.model.fingerprint_fields()


def test_what_decides_a_section_within_a_section_counts() -> None:
    train = compose(ROOT, ["recipe=quick"]).train
    changed = train.model_copy(update={"muon": train.muon.model_copy(update={"momentum": 0.5})})
    assert changed.fingerprint_fields()["muon"] == {"learning_rate": train.muon.learning_rate, "momentum": 0.5}
    of_adamw = [one.model_copy(update={"optimizer": "adamw"}).fingerprint_fields() for one in (train, changed)]
    assert of_adamw[0] == of_adamw[1], "Muon's values decide nothing where another optimizer is used"
    assert "output_samples" not in train.fingerprint_fields()["dropout"]


TOO_LARGE = {
    "model.num_layers": 1_000_000,
    "model.hidden_size": 1_000_000,
    "model.embedding_size": 1_000_000,
    "model.feed_forward_size": 1_000_000,
    "model.forget_gate_bias": 1e39,
    "train.seed": 2**63,
    "train.batch_size": 10**8,
    "train.micro_batch_size": 10**8,
    "train.context_len": 10**9,
    "train.window_stride": 10**30,
    "train.validation_context_len": 10**9,
    "train.epochs": 10**9,
    "train.warmup_steps": 10**30,
    "train.early_stopping_epochs": 10**30,
    "train.log_every_steps": 10**30,
    "train.learning_rate": 1e300,
    "train.weight_decay": 1e300,
    "train.gradient_clip_norm": 1e300,
    "train.dropout.output_samples": 10**6,
    "evaluate.window_lens": [10**9],
    "sample.num_chars": 10**9,
    "sample.prompts": ["x"] * 2000,
    "sample.temperatures": [1e300],
    "sample.seeds": [10**4000],
    "sample.top_k": 10**30,
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_sizes_have_bounds(tmp_path: Path, name: str) -> None:
    write_params(tmp_path, {name: TOO_LARGE[name]})
    with pytest.raises(ParamsError, match=rf"params.yaml: {name}(\.\d)? .*(less than|at most)") as caught:
        load_params(tmp_path / "params.yaml")
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_a_number_too_long_to_be_shown(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="train.seed should be less than .*, got a int$"):
        load(tmp_path, replaced(SHIPPED, "seed", f"seed: 0x{'f' * 5000}"))

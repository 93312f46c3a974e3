"""Bad values in `params.yaml` are refused by stage check, so that no output is lost."""

from pathlib import Path

import pytest

from pipeline.run.dvc import files_below
from pipeline.run.stage import main
from tests.support.commands import only_error
from tests.support.projects import write_params
from tests.support.stages import run_dvc

MANY = 10**9
# Values by dotted name. Each value alone is bad for the text of the project.
BAD: list[tuple[str, object]] = [
    ("download.name", "../shakespear"),
    ("download.name", ""),
    ("download.source", ""),
    ("download.sha256", "86c4"),
    ("download.encoding", ""),
    ("download.newlines", "crlf"),
    ("split.val_fraction", 0.0),
    ("split.val_fraction", 1),
    ("split.val_fraction", 0.99999),
    ("split.val_fraction", 0.00001),
    ("split.test_fraction", 0.95),
    ("split.test_fraction", -0.1),
    ("encode.unit", "word"),
    ("encode.min_count", MANY),
    ("encode.min_count", 0),
    ("encode.unseen", "ignore"),
    ("model.implementation", "fast"),
    ("model.embedding_size", -1),
    ("model.hidden_size", 65_536),
    ("model.hidden_size", 320.5),
    ("model.num_layers", 0),
    ("model.feed_forward_size", "320"),
    ("model.initialization", "zeros"),
    ("model.forget_gate_bias", "inf"),
    ("train.seed", -1),
    ("train.initial", "docs"),
    ("train.initial", "/etc"),
    ("train.initial", "conf"),
    ("train.precision", "fp16"),
    ("train.batching", "random"),
    ("train.batch_size", 1_000_000),
    ("train.micro_batch_size", 0),
    ("train.context_len", 10_000_000),
    ("train.context_len", 5_000),
    ("train.window_stride", 0),
    ("train.epochs", -1),
    ("train.epoch", 1),
    ("train.muon.learning_rate", "high"),
    ("train.warmup_steps", MANY),
    ("train.weight_decay", -0.1),
    ("train.dropout.output", 1),
    ("train.ema_decay", 1.0),
    ("train.log_every_steps", 0),
    ("evaluate.window_lens", [0]),
    ("evaluate.max_chars", 1),
    ("sample.prompts", ["\N{SNOWMAN}"]),
    ("sample.prompts", []),
    ("sample.temperatures", [-0.5]),
    ("sample.top_p", 0),
    ("sample.num_chars", 0),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_stage_check_refuses_a_bad_value(
    recorded: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: object,
) -> None:
    params = (recorded / "params.yaml").read_text()
    monkeypatch.chdir(recorded)
    try:
        write_params(recorded, {name: value})
        assert main(["check"]) == 2
    finally:
        (recorded / "params.yaml").write_text(params)
    error = only_error(caplog)
    assert "\n" not in error and len(error) < 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.epochs", -1),
        *(pytest.param(*bad, marks=pytest.mark.slow) for bad in BAD),
    ],
)
def test_a_bad_value_changes_no_output(copy: Path, name: str, value: object) -> None:
    def files() -> dict[Path, bytes]:
        paths = [copy / "dvc.lock"]
        for folder in ("artifacts", "Datasets"):
            paths += files_below(copy / folder)
        return {path: path.read_bytes() for path in paths}

    before = files()
    assert len(before) > 20
    write_params(copy, {name: value})
    assert run_dvc(copy, "repro").returncode != 0
    assert files() == before


def test_a_text_that_is_not_there_yet_is_checked_after_the_download(copy: Path) -> None:
    """The outputs of the former text stay."""
    (copy / "other.txt").write_text("another text, " * 50)
    other = {"download.name": "other", "download.source": "other.txt"}
    write_params(copy, {**other, "download.watch": "other.txt", "sample.prompts": ["def "]})
    done = run_dvc(copy, "repro")
    assert "failed to reproduce 'download'" in done.stderr
    assert "ERROR: sample.prompts[0]: the prompt 'def ' has characters" in done.stderr
    assert (copy / "Datasets/other.txt").exists()
    assert (copy / "Datasets/split/train.txt").exists()
    assert (copy / "artifacts/model/model.safetensors").exists()

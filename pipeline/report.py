"""Not a stage: the result that `make repro` and `charlstm new --run` end with, from files and from the MLflow run."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from charlstm.errors import HistoryError
from charlstm.evaluation.baselines import BASELINES, Baselines, read_baselines
from charlstm.evaluation.published import published_for, text_sha256
from charlstm.files.documents import read_json
from charlstm.params import Params
from charlstm.text.encoded import load_encoded
from charlstm.text.vocabulary import load_vocab
from charlstm.training.history import read_csv
from pipeline.dvc.paths import Paths
from pipeline.provenance.summary import RunSummary, remedy
from pipeline.stage import stage
from pipeline.stage.presets import in_words
from pipeline.stage.terminal import printable

EXCERPT_LINES = 8


def run(params: Params, paths: Paths) -> None:
    """Print losses beside published ones, size, speed, a sample, and where to look next."""
    train, evaluate = _read_json(paths.train / "metrics.json"), _read_json(paths.evaluate / "metrics.json")
    vocab = load_vocab(paths.encoded / "vocab.json")
    reported = params.evaluate.model_dump(mode="json")["published"]
    val = load_encoded(paths.encoded / "val.npy", vocab).first(params.evaluate.max_chars)
    published = published_for(text_sha256(val.ids, vocab), reported)
    console = Console(highlight=False)
    console.print(f"params.yaml: {in_words(params.values())}", soft_wrap=True)
    losses = {protocol: loss["nats_per_char"] for protocol, loss in evaluate.items()}
    console.print(_losses(RunSummary(losses=losses, published=published)))
    baselines, helps = read_baselines(paths.evaluate / BASELINES), remedy(train["best_epoch"], train["num_epochs"])
    console.print(_beside(baselines, evaluate["stateful"]["bits_per_char"], helps))
    if reported is None:
        console.print("No published losses are known for this text.")
    elif not published:
        console.print("Another validation text than that of the published losses: they do not apply.")
    console.print(f"{train['num_parameters']:,} parameters, best epoch {train['best_epoch']} of {train['num_epochs']}")
    prompt, temperature, text = _sample(paths)
    title = printable(f"A sample, prompt {prompt!r}, temperature {temperature}:", console.encoding)
    excerpt = printable(prompt + text, console.encoding).split("\n")[:EXCERPT_LINES]
    console.print("", title, *excerpt, sep="\n", markup=False, soft_wrap=True)
    console.print(
        f"\nRead first: {paths.samples}/review.html, in a browser   all samples: {paths.samples}/   "
        f"losses: dvc metrics show   curve: {paths.evaluate}/loss_curve.png   runs: make ui",
        soft_wrap=True,
    )


def _losses(summary: RunSummary) -> Table:
    losses = summary.losses or {}
    parts = "the validation part, and at last on the test part," if "test_stateful" in losses else "the validation part"
    table = Table(title=f"Loss on {parts} (nats per character; lower is better)")
    for column in ("protocol", "this model", "bits/char", *(("others", "who") if summary.beside else ())):
        table.add_column(column)
    for protocol, loss in losses.items():
        others = summary.beside.get(protocol, [])
        cells = [
            "\n".join(f"{other.nats_per_char:.4f}" for other in others),
            "\n".join(other.system for other in others),
        ]
        table.add_row(protocol, f"{loss:.4f}", f"{loss / math.log(2):.4f}", *(cells if others else ()))
    return table


def _beside(baselines: Baselines, bits_per_char: float, helps: str) -> str:
    """A line that says what the model's loss is worth, and what helps if that is little."""
    bits = baselines.bits_per_char
    names = (baselines.best_ngram, *baselines.compressors)
    others = ", ".join(f"{name} {bits[name]:.4f}" for name in names)
    better = baselines.better_than(bits_per_char)
    verdict = f". {better} is better than the model, which has {bits_per_char:.4f}; {helps}" if better else ""
    return f"Without a network: {others} bits/char, by the same training text{verdict}."


def _sample(paths: Paths) -> tuple[str, float, str]:
    """Prompt, temperature and text of the sample drawn nearest to temperature 0.8, the last such prompt's first."""
    samples = read_csv(paths.samples / "samples.csv", ("prompt", "temperature", "text"))
    distance = (samples["temperature"] - 0.8).abs()
    nearest = samples[distance == distance.min()]
    row = nearest[nearest["prompt"] == nearest["prompt"].iloc[-1]].iloc[0]
    return str(row["prompt"]), float(row["temperature"]), str(row["text"])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except (OSError, ValueError, TypeError):
        raise HistoryError(f"{path}: no results yet, or a damaged file; run `dvc repro`") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; the exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())

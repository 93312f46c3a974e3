"""Stage evaluate: model + encoded text -> losses under every protocol, the loss curve, a comparison by epoch."""

import json
import logging
import sys
from collections.abc import Sequence

import torch

from charlstm.checksums import SUMS, verify
from charlstm.errors import VocabularyError
from charlstm.evaluate import stateful, windowed
from charlstm.files import sha256, write_text
from charlstm.history import write_csv
from charlstm.loss import LossSum
from charlstm.model_folder import load_model
from charlstm.params import Params
from charlstm.plots import plot_losses
from charlstm.published import TINY_SHAKESPEARE_SHA256, beside_the_seed
from charlstm.tracking import Measurement, attach
from charlstm.vocab import Vocab, load_ids
from pipeline import provenance, stage
from pipeline.hardware import use_reproducible_kernels
from pipeline.paths import Paths

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Measure, write, and add to the model's MLflow run."""
    use_reproducible_kernels()
    verify(paths.encoded / SUMS, ["val.npy", "vocab.json"])
    model, vocab, model_sha256 = load_model(paths.model, params.model.implementation)
    if Vocab.load(paths.encoded / "vocab.json") != vocab:
        raise VocabularyError(f"{paths.model} and {paths.encoded} have different vocabularies; run `dvc repro`")
    ids = load_ids(paths.encoded / "val.npy", len(vocab))
    model.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
    losses = {f"windowed_{length}": windowed(model, ids, length) for length in params.evaluate.window_lens}
    losses["stateful"] = stateful(model, ids)
    for protocol, loss in losses.items():
        log.info("%-13s %.4f nats/char  %.4f bits/char", protocol, loss.nats_per_char, loss.bits_per_char)
    record = provenance.training_record(params, paths)
    is_comparable = sha256(paths.corpus) == TINY_SHAKESPEARE_SHA256

    metrics = {protocol: _metrics(loss) for protocol, loss in losses.items()}
    write_text(paths.evaluate / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    plot_losses(paths.evaluate / "loss_curve.png", record.steps, record.epochs, compare_with_seed=is_comparable)
    by_epoch = beside_the_seed(record.epochs) if is_comparable else record.epochs
    write_csv(paths.evaluate / "epochs.csv", by_epoch)

    tracked = attach(provenance.store(), model_sha256, record)
    tracked.log_metrics(
        Measurement(f"{protocol}.{name}", value)
        for protocol, values in metrics.items()
        for name, value in values.items()
    )
    tracked.log_params(params.flat())
    tracked.log_file(paths.evaluate / "loss_curve.png", "evaluate")
    tracked.log_file(paths.evaluate / "epochs.csv", "evaluate")
    tracked.close()


def _metrics(loss: LossSum) -> dict[str, float]:
    return {
        "nats_per_char": loss.nats_per_char,
        "bits_per_char": loss.bits_per_char,
        "perplexity": loss.perplexity,
        "num_chars": loss.num_chars,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())

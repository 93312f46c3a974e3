"""Stage evaluate: model, encoded text -> losses, blocks, baselines, curve, single cells."""

import json
import logging
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.evaluation.baselines import BASELINES, MAX_CHARS, measure_baselines
from charlstm.evaluation.difference import BLOCKS, blocks_of
from charlstm.evaluation.plots import ORIGINAL_VAL_SHA256, plot_losses
from charlstm.evaluation.results import HEADLINE, TEST_PREFIX, write_document
from charlstm.files.atomic import write_text
from charlstm.files.checksums import SUMS, read_sums
from charlstm.history import read_tables, write_csv
from charlstm.interpretation.analysis import CELLS, CELLS_TABLE, analyse_cells, cells_table
from charlstm.model.model_folder import TrainedModel, load_model
from charlstm.model.protocols import LossSum, stateful_nats, summed, windowed
from charlstm.model.shape import WEIGHTS
from charlstm.text.encoded import EncodedText, load_parts, text_sha256
from charlstm.text.vocabulary import Vocab
from pipeline.hardware import use_reproducible_kernels
from pipeline.lineage.mlflow_run import publish_outputs
from pipeline.run.dvc import Paths
from pipeline.run.stage import Stage

log = logging.getLogger("charlstm")

FIGURES = ("nats_per_char", "bits_per_char", "perplexity", "num_chars")


def run(stage: Stage) -> None:
    """Evaluate the model, write the results, and add them to the model's MLflow run."""
    params = stage.params
    paths = stage.paths
    use_reproducible_kernels()
    trained = load_model(paths.model, params.model.implementation)
    tables = read_tables(paths.train, paths.model / WEIGHTS)
    has_test = "test.npy" in read_sums(paths.encoded / SUMS)
    _, (train, val, *test) = load_parts(
        paths.encoded,
        ("train", "val", "test") if has_test else ("train", "val"),
        expected=trained.vocab,
    )

    section = params.evaluate
    text = _beginning(val, section.max_chars, "validation")
    losses, nats_N = _measure(trained, text, section.window_lens, paths)
    write_csv(paths.evaluate / BLOCKS, pd.DataFrame(blocks_of(nats_N, text)._asdict()))
    _compare(paths, losses[HEADLINE], train, text, trained.vocab)
    cells = analyse_cells(trained.model, trained.vocab, val.ids)
    write_document(paths.evaluate / CELLS, cells)
    write_csv(paths.evaluate / CELLS_TABLE, cells_table(cells))
    for part in test:
        log.info("the test part, which has influenced no choice:")
        beginning = _beginning(part, section.max_chars, "test")
        losses |= _measure(trained, beginning, section.window_lens, paths, TEST_PREFIX)[0]

    metrics = {
        protocol: {name: getattr(loss, name) for name in FIGURES}
        for protocol, loss in losses.items()
    }
    content = json.dumps(metrics, indent=2, allow_nan=False)
    write_text(paths.evaluate / "metrics.json", content + "\n")

    # The losses in the curve may cover less than the whole validation part.
    is_whole = len(val) <= (params.train.validation_chars or len(val))
    plot_losses(
        paths.evaluate / "loss_curve.png",
        tables.steps,
        tables.epochs,
        compare_with_original=is_whole
        and text_sha256(text.ids, trained.vocab) == ORIGINAL_VAL_SHA256,
    )
    publish_outputs(params, paths, has_samples=False)


def _beginning(text: EncodedText, max_chars: int | None, part: str) -> EncodedText:
    """Return the beginning of a part, up to `max_chars`. Log the limit if the part is longer."""
    if max_chars is not None and len(text) > max_chars:
        log.info(
            "the first %s of %s %ss of the %s part are measured (evaluate.max_chars)",
            f"{max_chars:,}",
            f"{len(text):,}",
            text.unit,
            part,
        )
    return text.first(max_chars)


def _measure(
    trained: TrainedModel,
    text: EncodedText,
    window_lens: Iterable[int],
    paths: Paths,
    prefix: str = "",
) -> tuple[dict[str, LossSum], NDArray[np.float64]]:
    """Return the model's losses, keyed by protocol names that begin with `prefix`.

    Also return the nats (N - 1,) of each id except the first under `stateful`.
    """
    model = trained.model
    model.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
    lengths = {f"{prefix}windowed_{length}": length for length in window_lens}
    losses = {name: windowed(model, text, length) for name, length in lengths.items()}
    nats_N = stateful_nats(model, text)
    losses[f"{prefix}{HEADLINE}"] = summed(nats_N, text)
    for protocol, loss in losses.items():
        # JSON has no infinity.
        if not math.isfinite(loss.perplexity):
            raise CharlstmError(
                f"{paths.model}: the perplexity under {protocol} is not finite "
                f"(loss {loss.nats_per_char:.4g} nats/char); train with a lower train.learning_rate"
            )
        log.info(
            "%-13s %.4f nats/char  %.4f bits/char",
            protocol,
            loss.nats_per_char,
            loss.bits_per_char,
        )
    return losses, nats_N


def _compare(
    paths: Paths, loss: LossSum, train: EncodedText, text: EncodedText, vocab: Vocab
) -> None:
    """Write the baselines' losses on `text`. Log a warning unless the model beats all baselines."""
    known = vocab.decode(train.last(MAX_CHARS).ids)
    baselines = measure_baselines(known, vocab.decode(text.first(MAX_CHARS).ids))
    write_document(paths.evaluate / BASELINES, baselines, indent=2)
    bits = loss.bits_per_char
    log.info("%-13s %.4f bits/char; %s", "the model", bits, baselines.in_words())
    if not baselines.is_beaten_by(bits):
        log.warning("%s; `python -m pipeline result` says what may help", baselines.verdict(bits))

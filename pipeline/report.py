"""Not a stage: the result that `make repro` and `charlstm new --run` end with, from the review and the MLflow run."""

import logging
import sys

from rich.table import Table

from charlstm.errors import TrackingError
from charlstm.evaluation.baselines import BASELINES, read_baselines
from charlstm.evaluation.results import HEADLINE, TEST_PREFIX
from charlstm.params import Params
from charlstm.report.document import DOCUMENT, ReviewDocument, in_order, read_review
from charlstm.tracking.client import Reader
from charlstm.tracking.registered_model import MODEL_TAG
from pipeline.new.proposal import remedy
from pipeline.recipes import in_words
from pipeline.run import stage
from pipeline.run.dvc import Paths
from pipeline.run.project import store
from pipeline.run.terminal import plain_console, printable

log = logging.getLogger("charlstm")

EXCERPT_LINES = 8
SHOWN_TEMPERATURE = 0.8


def run(params: Params, paths: Paths) -> None:
    """Print losses and published ones, size, speed, a sample, and where to look next."""
    review, console = read_review(paths.samples / DOCUMENT), plain_console()
    console.print(f"params.yaml: {in_words(params.values())}", soft_wrap=True)
    fallback = params.download.fallback
    if fallback is not None and review.corpus_sha256 == fallback.sha256:
        console.print(
            f"THE TEXT IS A SUBSTITUTE, {fallback.requirement}, since no source gave the one that is named."
        )
    console.print(_losses(review))
    baselines, ours = (
        read_baselines(paths.evaluate / BASELINES),
        review.losses[HEADLINE].bits_per_char,
    )
    console.print(f"For comparison: {baselines.in_words()} bits/char, by the same training text.")
    helps = ""
    if baselines.is_of_repetitions:
        helps = "much of the validation part stands in the training part already: all these losses flatter"
    elif not baselines.is_beaten_by(ours):
        helps = remedy(
            params,
            best_epoch=review.best_epoch,
            num_epochs=review.num_epochs,
            num_train_chars=review.num_train_chars,
            vocab_size=review.vocab_size,
            num_parameters=review.num_parameters,
        )
    verdict = baselines.verdict(ours)
    console.print(
        f"{verdict[0].upper()}{verdict[1:]}.{f' {helps[0].upper()}{helps[1:]}.' if helps else ''}"
    )
    reported = params.evaluate.published
    if reported is not None and reported.validation_sha256 != review.validation_sha256:
        console.print(
            "Another validation text than that of the published losses: they do not apply."
        )
    planned = (
        f" ({params.train.epochs} were planned)" if review.num_epochs < params.train.epochs else ""
    )
    epochs = f"best epoch {review.best_epoch} of {review.num_epochs}{planned}"
    console.print(f"{review.num_parameters:,} parameters, {epochs}")
    metrics = _metrics(review.model_sha256)
    if "train/speed" in metrics:
        speed, seconds = metrics["train/speed"], metrics["train/seconds"]
        console.print(f"{speed:,.0f} characters a second, {seconds:.0f} s of training")
    sample = min(
        reversed(review.samples), key=lambda sample: abs(sample.temperature - SHOWN_TEMPERATURE)
    )
    title = f"\nA sample, prompt {sample.prompt!r}, temperature {sample.temperature}:\n"
    excerpt = "\n".join((sample.prompt + sample.text).split("\n")[:EXCERPT_LINES])
    console.print(printable(title + excerpt, console.encoding), soft_wrap=True)
    console.print(
        f"\nRead first: {paths.samples}/review.html, in a browser   all runs: make ui",
        soft_wrap=True,
    )


def _metrics(model_sha256: str) -> dict[str, float]:
    """The metrics of the model's newest run; empty if there is none, or if the store does not answer."""
    try:
        runs = Reader(store()).by_tag(MODEL_TAG, model_sha256)
    except TrackingError as error:  # a view may be gone, the files are not
        log.warning("%s; the files have everything", error)
        return {}
    return runs[0].metrics if runs else {}


def _losses(review: ReviewDocument) -> Table:
    """The headline first; published losses stand in the line of their own protocol."""
    part = (
        "validation and test part"
        if f"{TEST_PREFIX}{HEADLINE}" in review.losses
        else "validation part"
    )
    head = ("protocol", "this model", "bits/char", *(("others", "who") if review.published else ()))
    table = Table(*head, title=f"Loss on the {part} (nats per character; lower is better)")
    for protocol in in_order(review.losses):
        loss, others = (
            review.losses[protocol],
            [one for one in review.published if one.protocol == protocol],
        )
        row = [protocol, f"{loss.nats_per_char:.4f}", f"{loss.bits_per_char:.4f}"]
        if review.published:
            row += [
                "\n".join(f"{one.nats_per_char:.4f}" for one in others),
                "\n".join(one.system for one in others),
            ]
        table.add_row(*row)
    return table


if __name__ == "__main__":
    sys.exit(stage.run(run))

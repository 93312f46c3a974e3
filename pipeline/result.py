"""The result that `make repro` and `charlstm new --run` print at their end. Not a DVC stage."""

from rich.table import Table

from charlstm.evaluation.baselines import BASELINES, Baselines, read_baselines
from charlstm.evaluation.results import HEADLINE, TEST_PREFIX
from charlstm.review.document import DOCUMENT, ReviewDocument, in_order, read_review, typical_sample
from pipeline.recipes import in_words
from pipeline.run.stage import Stage
from pipeline.run.terminal import plain_console, printable

EXCERPT_LINES = 8


def run(stage: Stage) -> None:
    """Print the model's losses and size, published losses, a sample text and where to look next."""
    params = stage.params
    paths = stage.paths
    console = plain_console()
    review = read_review(paths.samples / DOCUMENT)
    baselines = read_baselines(paths.evaluate / BASELINES)
    console.print(f"params.yaml: {in_words(params.values())}", soft_wrap=True)
    fallback = params.download.fallback
    if fallback is not None and review.corpus_sha256 == fallback.sha256:
        console.print(
            f"THE TEXT IS A SUBSTITUTE, {fallback.requirement}, because no source provided the "
            "configured text."
        )

    console.print(_losses(review))
    console.print(f"For comparison: {baselines.in_words()} bits/char with the same training text.")
    console.print(_verdict(review, baselines))
    reported = params.evaluate.published
    if reported is not None and reported.validation_sha256 != review.validation_sha256:
        console.print(
            "The published losses do not apply: they were measured on another validation text."
        )

    planned = params.train.epochs
    stopped = f" ({planned} were planned)" if review.num_epochs < planned else ""
    epochs = f"best epoch {review.best_epoch} of {review.num_epochs}{stopped}"
    console.print(f"{review.num_parameters:,} parameters, {epochs}")

    if sample := typical_sample(review.samples):
        title = f"\nA sample, prompt {sample.prompt!r}, temperature {sample.temperature}:\n"
        excerpt = "\n".join((sample.prompt + sample.text).split("\n")[:EXCERPT_LINES])
        console.print(printable(title + excerpt, console.encoding), soft_wrap=True)
    page = f"\nRead first: {paths.samples}/review.html, in a browser   all runs: make ui"
    console.print(page, soft_wrap=True)


def _verdict(review: ReviewDocument, baselines: Baselines) -> str:
    """Return sentences that compare the model with the baselines and say what may help."""
    bits = review.losses[HEADLINE].bits_per_char
    sentences = [baselines.verdict(bits)]
    if baselines.is_of_repetitions:
        sentences.append(
            "much of the validation part also occurs in the training part, so all these losses are "
            "too low"
        )
    elif not baselines.is_beaten_by(bits):
        sentences.append(_remedy(review))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def _remedy(review: ReviewDocument) -> str:
    """Return advice for lowering the loss of a reviewed model."""
    if review.best_epoch < review.num_epochs:
        return (
            f"the loss rose after epoch {review.best_epoch} of {review.num_epochs}: use more "
            "dropout (train.dropout.output), fewer units (model.hidden_size) or more text, or "
            "start from a model of a longer text (charlstm new TEXT --from MODEL)"
        )
    return (
        "the loss still fell in the last epoch: train longer (train.epochs), use more units "
        "(model.hidden_size), or find more text"
    )


def _losses(review: ReviewDocument) -> Table:
    """Return a table of the model's and the published losses, with the headline protocol first."""
    has_test = f"{TEST_PREFIX}{HEADLINE}" in review.losses
    part = "validation and test part" if has_test else "validation part"
    published = ("others", "who") if review.published else ()
    title = f"Loss on the {part} (nats per character; lower is better)"
    table = Table("protocol", "this model", "bits/char", *published, title=title)
    for protocol in in_order(review.losses):
        loss = review.losses[protocol]
        others = [other for other in review.published if other.protocol == protocol]
        row = [protocol, f"{loss.nats_per_char:.4f}", f"{loss.bits_per_char:.4f}"]
        row.append("\n".join(f"{other.nats_per_char:.4f}" for other in others))
        row.append("\n".join(other.system for other in others))
        # The table lacks its last two columns if there are no published losses.
        table.add_row(*row[: len(table.columns)])
    return table

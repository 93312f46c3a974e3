"""`charlstm info`: the card of a trained model.

The card of a project's model comes from `review.json`, if its SHA-256 is the model's, and from the
first commit whose `dvc.lock` records the folder. The card of another folder is its `card.json`,
which `charlstm export folder` writes. The card of a model in MLflow comes from the newest run with
this model's SHA-256.

A card names a commit, which depends on no input of DVC. So `artifacts/model`, whose bytes DVC
records, never has a card. Only copies have a card.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from charlstm.errors import CharlstmError
from charlstm.files.atomic import read_document
from charlstm.tracking.registered_model import MODEL_TAG, is_address
from pipeline.arguments import MODEL, MODEL_HELP, JsonOption, ModelOption, echo_json, open_model
from pipeline.run.project import declared_paths, find_root, from_here
from pipeline.run.store import store
from pipeline.run.terminal import printable

CARD = "card.json"
MAX_SHOWN = 80  # maximum number of vocabulary characters to show


class Card(BaseModel):
    """The origin and the losses of a model. Unknown values are None.

    `card.json` next to a copy has all fields except `recorded_in`.
    """

    model_sha256: str
    corpus: str | None = None
    corpus_sha256: str | None = None
    recipe: str | None = None
    commit: str | None = None
    losses: dict[str, float] | None = None  # nats per character, by protocol
    params: dict[str, str] | None = None
    recorded_in: str | None = None


def info(
    argument: Annotated[
        str | None, typer.Argument(metavar="MODEL", help=MODEL_HELP, callback=from_here)
    ] = None,
    model: ModelOption = MODEL,
    as_json: JsonOption = False,
) -> int:
    """Show a model's card: sizes, text, commit and losses.

    Sizes and hash come from the model's files. All other facts come from the project that contains
    the folder, if its records are about this very model. In a project, the commit is the first that
    records the model. `charlstm trace` shows the commit of the code.
    """
    model = argument or model
    sizes = open_model(model).info
    card = {"model": model, **sizes, **read_card(model, sizes["model_sha256"]).model_dump()}
    if as_json:
        echo_json(card)
    else:
        typer.echo(printable("\n".join(lines_of(card))))
    return 0


def lines_of(card: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a human-readable model card."""
    layers = f"{card['num_layers']} x {card['hidden_size']} LSTM units"
    embedding = f"embedding of {card['embedding_size'] or 'none'}"
    size = f"{card['num_parameters']:,} parameters: {layers}, {embedding}"
    if card["feed_forward_size"]:
        size += f", feed-forward block of {card['feed_forward_size']}"

    if (characters := card["characters"]) is None:
        vocabulary = f"{card['vocab_size']} bytes of UTF-8: any character"
    else:
        rest = " ..." if len(characters) > MAX_SHOWN else ""
        vocabulary = f"{card['vocab_size']} characters: {characters[:MAX_SHOWN]!r}{rest}"

    losses = [f"{name} {loss:.4f}" for name, loss in (card["losses"] or {}).items()]
    shown = {
        "model": card["model"],
        "SHA-256": card["model_sha256"],
        "size": size,
        "vocabulary": vocabulary,
        "text": card["corpus"],
        "its SHA-256": card["corpus_sha256"],
        "recipe": card["recipe"],
        "commit": card["commit"],
        "nats/char": ", ".join(losses) or None,
        "recorded in": card["recorded_in"] or "no record found for this model",
    }
    for name, value in shown.items():
        yield f"{name:<13}{'unknown' if value is None else value}"


def read_card(where: str, sha256: str) -> Card:
    """Return the card of the model at `where`. Use only records with the given `sha256`."""
    folder = Path(where).resolve()
    card = None
    if is_address(where):
        card = _card_of_run(sha256)
    elif root := find_root(folder.parent):
        with contextlib.chdir(root), contextlib.suppress(CharlstmError):
            card = _card_of_project(folder)
    if card is None:
        with contextlib.suppress(OSError, ValueError):  # the card is missing or damaged
            card = Card.model_validate_json(read_document(folder / CARD))
            card.recorded_in = CARD
    return card if card and card.model_sha256 == sha256 else Card(model_sha256=sha256)


def _card_of_run(sha256: str) -> Card | None:
    """Return a model's card from its newest run in MLflow, or None if there is no run."""
    from charlstm.tracking.client import Reader
    from pipeline.lineage.provenance import COMMIT, losses_of

    run = next(iter(Reader(store()).by_tag(MODEL_TAG, sha256)), None)
    return run and Card(
        model_sha256=sha256,
        corpus=run.tags.get("corpus"),
        corpus_sha256=run.tags.get("corpus_sha256"),
        recipe=run.tags.get("recipe"),
        commit=run.tags.get(COMMIT),
        losses=losses_of(run.metrics),
        params=run.params,
        recorded_in=f"run {run.run_id}",
    )


def _card_of_project(folder: Path) -> Card | None:
    """Return the card of a project's model from the project's review and git history.

    Return None if `folder` is not the model folder of the project in the current folder.
    """
    from charlstm.review.document import DOCUMENT, read_review
    from pipeline.lineage.git import commits_with
    from pipeline.lineage.provenance import flat, recipe_in
    from pipeline.run.dvc import md5

    # Do not read `params.yaml`, which may already be edited for the next model.
    declared = declared_paths()
    if Path(declared["model"]).resolve() != folder:
        return None
    file = Path(declared["samples"]) / DOCUMENT
    review = read_review(file)
    commits = commits_with(md5(folder))
    return Card(
        model_sha256=review.model_sha256,
        corpus=review.corpus,
        corpus_sha256=review.corpus_sha256,
        recipe=recipe_in(review.parameters),
        commit=commits[-1] if commits else None,  # the oldest
        losses={name: loss.nats_per_char for name, loss in review.losses.items()},
        params=flat(review.parameters),
        recorded_in=str(file),
    )

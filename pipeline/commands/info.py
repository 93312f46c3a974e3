"""`charlstm info`: the card of a trained model. What no record says is None, and "unknown" on the screen.

Of the model of a project: its `review.json` if that names this SHA-256, and the first commit whose `dvc.lock` names the
folder. Of another folder: the `card.json` in it, which `charlstm export folder` writes. Of an address of MLflow: the
newest run with a model of this SHA-256.

A card names a commit, which no input decides. So it is never in `artifacts/model`, whose bytes DVC records: only copies
have one.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from charlstm.errors import CharlstmError
from charlstm.tracking.registered_model import MODEL_TAG, is_address
from pipeline.command_io import MODEL, MODEL_HELP, JsonOption, ModelOption, open_model
from pipeline.run.project import declared_paths, find_root, from_here, store
from pipeline.run.terminal import printable
from pipeline.streams import to_the_end_of_a_pipe

CARD = "card.json"


class Card(BaseModel):
    """What is known of a model. `card.json` next to a copy has all of it but `recorded_in`."""

    model_sha256: str
    corpus: str | None = None
    corpus_sha256: str | None = None
    recipe: str | None = None
    commit: str | None = None
    losses: dict[str, float] | None = None  # nats/char by protocol
    params: dict[str, str] | None = None
    recorded_in: str | None = None


def info(
    argument: Annotated[
        str | None, typer.Argument(metavar="MODEL", help=MODEL_HELP, callback=from_here)
    ] = None,
    model: ModelOption = MODEL,
    is_json: JsonOption = False,
) -> int:
    """Show the card of a model: sizes, text, commit, losses.

    Sizes and hash come from the folder. The rest comes from the project around it, if its records name this very model.
    """
    model = argument or model
    sizes = open_model(model).info
    card = {"model": model, **sizes, **read_card(model, sizes["model_sha256"]).model_dump()}
    with to_the_end_of_a_pipe():
        if is_json:
            typer.echo(json.dumps(card, indent=2, ensure_ascii=False).encode())
        else:
            for line in lines_of(card):
                typer.echo(printable(line, sys.stdout.encoding))
    return 0


def lines_of(card: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a card, for people."""
    block = (
        f", feed-forward block of {card['feed_forward_size']}" if card["feed_forward_size"] else ""
    )
    if (characters := card["characters"]) is None:
        vocabulary = f"{card['vocab_size']} bytes of UTF-8: any character"
    else:
        rest = " ..." if len(characters) > 80 else ""
        vocabulary = f"{card['vocab_size']} characters: {characters[:80]!r}{rest}"
    shown = {
        "model": card["model"],
        "SHA-256": card["model_sha256"],
        "size": f"{card['num_parameters']:,} parameters: {card['num_layers']} x {card['hidden_size']} LSTM units, "
        f"embedding of {card['embedding_size'] or 'none'}{block}",
        "vocabulary": vocabulary,
        "text": card["corpus"],
        "its SHA-256": card["corpus_sha256"],
        "recipe": card["recipe"],
        "commit": card["commit"],
        "nats/char": ", ".join(
            f"{name} {loss:.4f}" for name, loss in (card["losses"] or {}).items()
        )
        or None,
        "recorded in": card["recorded_in"] or "no record found that names this model",
    }
    for name, value in shown.items():
        yield f"{name:<13}{'unknown' if value is None else value}"


def read_card(where: str, sha256: str) -> Card:
    """The card of this very model, from its records."""
    folder, record = Path(where).resolve(), None
    if is_address(where):
        record = _card_of_run(sha256)
    elif (root := find_root(folder.parent)) is not None:
        with contextlib.chdir(root), contextlib.suppress(CharlstmError):
            record = _card_of_project(folder)
    with contextlib.suppress(
        OSError, ValueError, TypeError, RecursionError
    ):  # somebody else's file
        card = Card.model_validate(
            record or json.loads((folder / CARD).read_bytes()) | {"recorded_in": CARD}
        )
        if card.model_sha256 == sha256:
            return card
    return Card(model_sha256=sha256)


def _card_of_run(sha256: str) -> dict[str, Any] | None:
    """The card of a model, from its newest run."""
    from charlstm.tracking.client import Reader
    from pipeline.lineage.provenance import COMMIT, losses_of

    for run in Reader(store()).by_tag(MODEL_TAG, sha256):
        tags = {name: run.tags.get(name) for name in ("corpus", "corpus_sha256", "recipe")}
        found = {
            "losses": losses_of(run.metrics),
            "params": run.params,
            "recorded_in": f"run {run.run_id}",
        }
        return {"model_sha256": sha256, "commit": run.tags.get(COMMIT), **tags, **found}
    return None


def _card_of_project(folder: Path) -> dict[str, Any] | None:
    """The card of `folder`, from the review and git in the current folder; None if it is not that project's model."""
    from charlstm.report.document import DOCUMENT, read_review
    from pipeline.lineage.git import commits_with
    from pipeline.lineage.provenance import flat, recipe_in
    from pipeline.run.dvc import md5

    declared = declared_paths()  # whatever params.yaml says: it may be of the next model already
    if Path(declared["model"]).resolve() != folder:
        return None
    file = Path(declared["samples"]) / DOCUMENT
    review, commits = read_review(file), commits_with(md5(folder))
    return {
        "model_sha256": review.model_sha256,
        "corpus": review.corpus,
        "corpus_sha256": review.corpus_sha256,
        "recipe": recipe_in(review.parameters),
        "commit": commits[-1] if commits else None,  # the first
        "losses": {name: loss.nats_per_char for name, loss in review.losses.items()},
        "params": flat(review.parameters),
        "recorded_in": str(file),
    }

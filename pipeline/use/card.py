"""`charlstm info`: what is known of a model. What no record says is None, and "unknown" on the screen.

Of a folder in a project: `review.json` if it names this model's SHA-256, and `dvc.lock` if it names the folder's MD5.
Of another folder: the `card.json` in it, which `charlstm export folder` writes. Of an address of MLflow: the newest run
with a model of this SHA-256.

A card names a commit, which no input decides. So it is never in `artifacts/model`, whose bytes DVC records: only copies
have one.
"""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel, ConfigDict

from charlstm.errors import CharlstmError, ExportError
from charlstm.files.atomic import atomic_folder
from charlstm.files.documents import read_json
from charlstm.model.model_folder import CONFIG, VOCAB, WEIGHTS
from charlstm.tracking.registered_model import is_address
from pipeline.stage.project import find_root
from pipeline.stage.terminal import printable
from pipeline.use.models import model_folder, open_model
from pipeline.use.output import to_the_end_of_a_pipe

RECORDS = ("corpus", "corpus_sha256", "recipe", "commit", "losses", "params", "recorded_in")
CARD = "card.json"


def show_card(where: str, *, is_json: bool) -> None:
    """Print the card.

    Raises:
        CharlstmError: there is no such model.
    """
    card = card_of(where)
    with to_the_end_of_a_pipe():
        if is_json:
            typer.echo(json.dumps(card, indent=2, ensure_ascii=False).encode())
        else:
            for line in lines_of(card):
                typer.echo(printable(line, sys.stdout.encoding))


class Card(BaseModel):
    """`card.json`: what is known of the model beside it."""

    model_config = ConfigDict(extra="ignore")

    model_sha256: str
    corpus: str | None
    corpus_sha256: str | None
    recipe: str | None
    commit: str | None
    losses: dict[str, float] | None
    params: dict[str, str] | None


def write_copy(where: str, target: Path) -> None:
    """Write a folder with the model and its card, whole or not at all.

    Raises:
        CharlstmError: there is no such model, or there is something at `target` already.
    """
    if target.exists():
        raise ExportError(f"{target}: exists already; choose another --output")
    with model_folder(where) as folder:
        card = Card(**card_of(where))
        with atomic_folder(target) as temporary:
            for name in (WEIGHTS, CONFIG, VOCAB):
                shutil.copyfile(folder / name, temporary / name)
            (temporary / CARD).write_text(json.dumps(card.model_dump(), indent=2, ensure_ascii=False) + "\n", "utf-8")


def card_of(where: str) -> dict[str, Any]:
    """The card as `--json` prints it."""
    info = open_model(where).info
    record: dict[str, Any] = dict.fromkeys(RECORDS)
    if is_address(where):
        from pipeline.use.records import of_run

        return {"model": where, **info, **record, **of_run(info["model_sha256"])}
    return {"model": where, **info, **record, **_of_folder(Path(where), info["model_sha256"])}


def lines_of(card: Mapping[str, Any]) -> Iterator[str]:
    """A card for eyes."""
    block = f", feed-forward block of {card['feed_forward_size']}" if card["feed_forward_size"] else ""
    losses = [f"{name} {loss:.4f}" for name, loss in (card["losses"] or {}).items()]
    shown = {
        "model": card["model"],
        "SHA-256": card["model_sha256"],
        "size": f"{card['num_parameters']:,} parameters: {card['num_layers']} x {card['hidden_size']} LSTM units, "
        f"embedding of {card['embedding_size'] or 'none'}{block}",
        "vocabulary": _vocabulary(card),
        "corpus": card["corpus"],
        "its SHA-256": card["corpus_sha256"],
        "recipe": card["recipe"],
        "commit": card["commit"],
        "nats/char": ", ".join(losses) or None,
        "recorded in": card["recorded_in"] or "no record found that names this model",
    }
    for name, value in shown.items():
        yield f"{name:<13}{'unknown' if value is None else value}"


def _vocabulary(card: Mapping[str, Any]) -> str:
    if (characters := card["characters"]) is None:
        return f"{card['vocab_size']} bytes of UTF-8: any character"
    return f"{card['vocab_size']} characters: {characters[:80]!r}" + (" ..." if len(characters) > 80 else "")


def _of_folder(folder: Path, sha256: str) -> dict[str, Any]:
    """What the project around the folder says of it, if it is that project's model; else the card in it."""
    folder = folder.resolve()
    if (root := find_root(folder.parent)) is not None:
        from pipeline.use.records import of_project  # a folder elsewhere needs no package of the pipeline

        with contextlib.chdir(root), contextlib.suppress(CharlstmError):
            if (found := of_project(folder, sha256)) is not None:
                return found
    return _of_card(folder / CARD, sha256)


def _of_card(file: Path, sha256: str) -> dict[str, Any]:
    try:
        card = Card.model_validate(read_json(file))
    except (ValueError, OSError):
        return {}
    return {**card.model_dump(), "recorded_in": CARD} if card.model_sha256 == sha256 else {}

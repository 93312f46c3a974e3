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
from charlstm.files.checksums import read_sums, sums_of
from charlstm.files.documents import load_yaml, read_json
from charlstm.files.urls import without_credentials
from charlstm.model.model_folder import CONFIG, VOCAB, WEIGHTS
from charlstm.params import Params, load_params
from charlstm.report.document import DOCUMENT, read_losses, read_review
from charlstm.tracking.reader import Reader, TrackedRun
from charlstm.tracking.registered_model import is_address
from charlstm.tracking.runs import MODEL_TAG
from pipeline.dvc.hashes import md5
from pipeline.dvc.paths import Paths, load_paths
from pipeline.lineage.revisions import commits_with
from pipeline.lineage.traces import flat, recipe_label
from pipeline.provenance.chain import folder_md5
from pipeline.provenance.provenance import COMMIT, LINEAGE
from pipeline.stage.presets import recipe_of
from pipeline.stage.project import find_root
from pipeline.stage.terminal import printable
from pipeline.stage.tracking_store import store
from pipeline.use.models import model_folder, open_model
from pipeline.use.output import to_the_end_of_a_pipe

LOSS = "/nats_per_char"  # ends the name of a loss among a run's metrics
WHILE_TRAINING = ("train/", "validation/")  # losses of other weights than the last
RECORDS = ("corpus", "corpus_sha256", "recipe", "commit", "losses", "params", "recorded_in")
CARD = "card.json"
RECIPES = Path("conf/recipe")
NOT_A_RECORD = (CharlstmError, OSError, KeyError, TypeError, AttributeError)  # missing, or of another form


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
    found = _of_run(info["model_sha256"]) if is_address(where) else _of_folder(Path(where), info["model_sha256"])
    return {"model": where, **info, **record, **found}


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
    """What the project around the folder says of it, if it is that project's model."""
    folder = folder.resolve()
    if (root := find_root(folder.parent)) is not None:
        with contextlib.chdir(root), contextlib.suppress(CharlstmError):
            paths = load_paths(Path("dvc.yaml"))
            if paths.model.resolve() == folder:
                reviewed, locked = _of_review(paths, sha256), _of_lock(paths)
                names = [one.pop("recorded_in") for one in (reviewed, locked) if one]
                found = reviewed | locked | ({"recorded_in": ", ".join(names)} if names else {})
                return found | ({"recipe": _recipe_here(found["params"])} if found else {})
    return _of_card(folder / CARD, sha256)


def _of_card(file: Path, sha256: str) -> dict[str, Any]:
    try:
        card = Card.model_validate(read_json(file))
    except (ValueError, OSError):
        return {}
    return {**card.model_dump(), "recorded_in": CARD} if card.model_sha256 == sha256 else {}


def _recipe_here(recorded: Mapping[str, str]) -> str | None:
    """The recipe of these parameters; None if `params.yaml` says others by now."""
    try:
        params = load_params(Path("params.yaml"))
    except CharlstmError:
        return None
    here = flat(params.model_dump(mode="json"))
    decided = {name: value for name, value in here.items() if name.startswith(("model.", "train."))}
    return _label(params) if all(recorded.get(name, value) == value for name, value in decided.items()) else None


def _recipe_of_run(reader: Reader, run: TrackedRun) -> str | None:
    """The recipe of the `params.yaml` that the run carries; None if it carries none that can be read."""
    return recipe_label(reader.text(run, f"{LINEAGE}/train/params.yaml")) if RECIPES.is_dir() else None


def _label(params: Params) -> str | None:
    """The recipe's name with what it changes; None where there are no recipes."""
    return recipe_of(params).label if RECIPES.is_dir() else None


def _of_review(paths: Paths, sha256: str) -> dict[str, Any]:
    file = paths.samples / DOCUMENT
    try:
        review = read_review(file)
    except NOT_A_RECORD:
        return {}
    if review.model_sha256 != sha256:
        return {}
    return {
        "corpus_sha256": review.corpus_sha256,
        "losses": {name: loss.nats_per_char for name, loss in review.losses.items()},
        "params": flat(review.parameters),
        "recorded_in": str(file),
    }


def _of_lock(paths: Paths) -> dict[str, Any]:
    try:
        stages = load_yaml(Path("dvc.lock"))["stages"]
        model = _md5s(stages["train"]["outs"])[str(paths.model)]
        if model != folder_md5(paths.model):
            return {}
        found = {"params": flat(stages["train"]["params"]["params.yaml"]), "recorded_in": "dvc.lock"}
    except NOT_A_RECORD:
        return {}
    if commits := commits_with(model):
        found["commit"] = commits[-1]  # the first
    with contextlib.suppress(*NOT_A_RECORD):
        sums = sums_of(paths.corpus)
        if _md5s(stages["train"]["deps"])[str(sums)] == md5(sums):
            found["corpus_sha256"] = read_sums(sums)[paths.corpus.name]
        if _md5s(stages["download"]["outs"])[str(sums)] == _md5s(stages["train"]["deps"])[str(sums)]:
            found["corpus"] = without_credentials(stages["download"]["params"]["params.yaml"]["download"]["source"])
    with contextlib.suppress(*NOT_A_RECORD):
        metrics, evaluate = paths.evaluate / "metrics.json", stages["evaluate"]
        is_of_model = _md5s(evaluate["deps"])[str(paths.model)] == model
        if is_of_model and _md5s(evaluate["outs"])[str(metrics)] == md5(metrics):
            found["losses"] = {name: loss.nats_per_char for name, loss in read_losses(metrics).items()}
    return found


def _md5s(entries: Any) -> dict[str, str]:  # noqa: ANN401  # a part of a YAML document
    return {str(one["path"]): str(one["md5"]) for one in entries}


def _of_run(sha256: str) -> dict[str, Any]:
    """What the newest run of this model says."""
    reader = Reader(store())
    runs = reader.by_tag(MODEL_TAG, sha256)
    if not runs:
        return {}
    run = runs[0]
    return {
        "corpus": run.tags.get("corpus"),
        "corpus_sha256": run.tags.get("corpus_sha256"),
        "recipe": _recipe_of_run(reader, run),
        "commit": run.tags.get(COMMIT),
        "losses": {
            name.removesuffix(LOSS): loss
            for name, loss in run.metrics.items()
            if name.endswith(LOSS) and not name.startswith(WHILE_TRAINING)
        },
        "params": dict(sorted(run.params.items())),
        "recorded_in": f"run {run.run_id}",
    }

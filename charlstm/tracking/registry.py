"""A registered model for each corpus: a version for each trained model, and `champion`, the best of those comparable.

A loss is lower only under the same protocol on the same bytes of validation text. Each function may be called again.
"""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from charlstm.storage.urls import without_credentials
from charlstm.tracking.logged_model import MODEL_TAG, NAME

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"  # the alias; as a tag with the value "no", a version never gets it
VALIDATION_TAG = "validation_sha256"
LOSS_SUFFIX = "/nats_per_char"  # a tag `windowed_256/nats_per_char` is a loss
PROTOCOLS = ("windowed_256", "stateful", "windowed_100")  # the first that two versions share decides
VERSIONS_TAG = "mlflow.modelVersions"
NUM_CHECKS = 5
TAGS = ("corpus", "corpus_sha256")  # of the run's; the run has the others
ABOUT = (
    "Character-level LSTMs{of_corpus}. The version with the alias champion has the lowest loss of all that were "
    "measured on the same text. Its address is {address}."
)


def register(
    client: "MlflowClient",
    model_id: str,
    *,
    corpus: str,
    run_id: str,
    model_sha256: str,
    losses: Mapping[str, float],
    validation_sha256: str,
    tags: Mapping[str, str],
) -> str:
    """Register a logged model, and make it champion if it is better; its version, of which each model has one.

    `losses` are nats/char by protocol, measured on a text with the SHA-256 `validation_sha256`. `tags` are the run's,
    of which `TAGS` are the version's as well. If the version is there, losses on the same text are added to it, losses
    on another text replace its own.
    """
    shown = {name: without_credentials(tags[name]) for name in TAGS if name in tags}
    shown |= {MODEL_TAG: model_sha256, VALIDATION_TAG: validation_sha256}
    shown |= {f"{protocol}{LOSS_SUFFIX}": repr(float(loss)) for protocol, loss in losses.items()}
    name = registered_name(corpus)
    version = find_version(client, name, model_sha256)
    if version is None:
        _create_registered_model(client, name, corpus)
        about = _describe(shown, run_id)
        source = client.get_logged_model(model_id).artifact_location  # of `models:/ID`, MLflow asks its global store
        version = client.create_model_version(name, source, run_id, shown, None, about, 0, model_id)
    else:
        _update(client, version, shown)
    _link(client, model_id, name, str(version.version))
    promote(client, name, str(version.version))
    return str(version.version)


def registered_name(corpus: str) -> str:
    """The registered model for models of that corpus: `charlstm-CORPUS`, since MLflow takes no slash there.

    Spools of an older version name no corpus: their models go where all did then.
    """
    return f"{NAME}-{corpus}" if corpus else NAME


def find_version(client: "MlflowClient", name: str, model_sha256: str) -> "ModelVersion | None":
    """The first version of the registered model that has these weights; None if there is none."""
    found = client.search_model_versions(f"name = '{name}' AND tags.{MODEL_TAG} = '{model_sha256}'")
    return min(found, key=_number, default=None)


def promote(client: "MlflowClient", name: str, version: str) -> None:
    """Give the alias to `version` if it is better than the champion, or if there is none.

    Then looks again, as long as a version that is better by the same protocol has it not: where two processes move
    the alias at once, the later one finds the version of the other, which was there before it was promoted.
    """
    holder, candidates = _candidates(client, name)
    champion, challenger = candidates.get(holder), candidates.get(version)
    if challenger is None or (champion is not None and not is_better(challenger.tags, champion.tags)):
        return
    protocol = common_protocol(challenger.tags, (champion or challenger).tags)
    for _ in range(NUM_CHECKS):
        text = challenger.tags.get(VALIDATION_TAG)
        rivals = [one for one in candidates.values() if one.tags.get(VALIDATION_TAG) == text]
        best = min(rivals, key=lambda one: _losses(one.tags).get(protocol, math.inf), default=None)
        if best is None or str(best.version) == holder:
            return
        client.set_registered_model_alias(name, CHAMPION, str(best.version))
        holder, candidates = _candidates(client, name)


def is_better(challenger: Mapping[str, str], champion: Mapping[str, str]) -> bool:
    """By the tags of two versions: is the challenger's loss lower, by the same protocol on the same text?"""
    protocol = common_protocol(challenger, champion)
    is_same_text = challenger.get(VALIDATION_TAG) == champion.get(VALIDATION_TAG)
    return is_same_text and protocol != "" and _losses(challenger)[protocol] < _losses(champion)[protocol]


def common_protocol(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The protocol that compares two versions, by their tags; empty if there is none."""
    common = _losses(one).keys() & _losses(other).keys()
    return next((protocol for protocol in [*PROTOCOLS, *sorted(common)] if protocol in common), "")


def _candidates(client: "MlflowClient", name: str) -> tuple[str, dict[str, "ModelVersion"]]:
    """The number of the version that has the alias, if any, and all that may have it, by number, oldest first."""
    holder = client.get_registered_model(name).aliases.get(CHAMPION, "")
    found = sorted(client.search_model_versions(f"name = '{name}'"), key=_number)
    return str(holder), {str(one.version): one for one in found if one.tags.get(CHAMPION) != "no"}


def _losses(tags: Mapping[str, str]) -> dict[str, float]:
    found = {name.removesuffix(LOSS_SUFFIX): float(tags[name]) for name in tags if name.endswith(LOSS_SUFFIX)}
    return {protocol: math.inf if math.isnan(loss) else loss for protocol, loss in found.items()}


def _number(version: "ModelVersion") -> int:
    return int(version.version)


def _create_registered_model(client: "MlflowClient", name: str, corpus: str) -> None:
    from mlflow.exceptions import MlflowException

    of_corpus = f" of the corpus {corpus}" if corpus else ""
    about = ABOUT.format(of_corpus=of_corpus, address=f"models:/{name}@{CHAMPION}")
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _link(client: "MlflowClient", model_id: str, registered: str, version: str) -> None:
    """Show the version on the logged model's page, as MLflow's own `register_model` does."""
    known = json.loads(client.get_logged_model(model_id).tags.get(VERSIONS_TAG, "[]"))
    if version not in [str(one["version"]) for one in known if one["name"] == registered]:
        link = {"name": registered, "version": int(version)}
        client.set_logged_model_tags(model_id, {VERSIONS_TAG: json.dumps([*known, link])})


def _update(client: "MlflowClient", version: "ModelVersion", tags: Mapping[str, str]) -> None:
    """Make the tags and the description say what `tags` do."""
    registered, number, known = version.name, str(version.version), dict(version.tags)
    if known.get(VALIDATION_TAG) != tags[VALIDATION_TAG]:  # first the old losses go, then the text, then come the new
        for name in [name for name in known if name.endswith(LOSS_SUFFIX)]:
            client.delete_model_version_tag(registered, number, name)
            del known[name]
    for name, value in tags.items():
        if known.get(name) != value:
            client.set_model_version_tag(registered, number, name, value)
    description = _describe({**known, **tags}, version.run_id)
    if version.description != description:
        client.update_model_version(registered, number, description)


def _describe(tags: Mapping[str, str], run_id: str) -> str:
    """Sentences, which read as text and as Markdown: the losses, and where the version comes from."""
    losses = [f"{loss:.4f} ({protocol})" for protocol, loss in sorted(_losses(tags).items())]
    corpus = f"A character-level LSTM, trained on {tags['corpus']}." if "corpus" in tags else "A character-level LSTM."
    # The losses first: a list of versions shows the beginning.
    measured = f"{', '.join(losses)} nats per character of the validation part. " if losses else ""
    return f"{measured}{corpus}\n\nThe run {run_id} has its parameters, its texts and what it was made of."

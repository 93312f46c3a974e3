"""The registered model `charlstm`: a version for each trained model, and `champion`, the best of those comparable.

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
ABOUT = "Character-level LSTMs. `champion` has the lowest loss of all versions that were measured on the same text."


def register(
    client: "MlflowClient",
    model_id: str,
    *,
    run_id: str,
    model_sha256: str,
    losses: Mapping[str, float],
    validation_sha256: str,
    tags: Mapping[str, str],
) -> str:
    """Register a logged model, and make it champion if it is better; its version, of which each model has one.

    `losses` are nats/char by protocol, measured on a text with the SHA-256 `validation_sha256`. `tags` say more of the
    version, e.g. `corpus`. If the version is there, losses on the same text are added to it, losses on another
    text replace its own.
    """
    shown = {name: without_credentials(value) for name, value in tags.items()}
    shown |= {MODEL_TAG: model_sha256, VALIDATION_TAG: validation_sha256}
    shown |= {f"{protocol}{LOSS_SUFFIX}": repr(float(loss)) for protocol, loss in losses.items()}
    version = find_version(client, model_sha256)
    if version is None:
        _create_registered_model(client)
        about = _describe(shown, run_id)
        source = client.get_logged_model(model_id).artifact_location  # of `models:/ID`, MLflow asks its global store
        version = client.create_model_version(NAME, source, run_id, shown, None, about, 0, model_id)
    else:
        _update(client, version, shown)
    _link(client, model_id, str(version.version))
    promote(client, str(version.version))
    return str(version.version)


def find_version(client: "MlflowClient", model_sha256: str) -> "ModelVersion | None":
    """The first version of the model with these weights; None if there is none."""
    found = client.search_model_versions(f"name = '{NAME}' AND tags.{MODEL_TAG} = '{model_sha256}'")
    return min(found, key=_number, default=None)


def promote(client: "MlflowClient", version: str) -> None:
    """Give the alias to `version` if it is better than the champion, or if there is none.

    Then looks again, as long as a version that is better by the same protocol has it not: where two processes move
    the alias at once, the later one finds the version of the other, which was there before it was promoted.
    """
    holder, candidates = _candidates(client)
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
        client.set_registered_model_alias(NAME, CHAMPION, str(best.version))
        holder, candidates = _candidates(client)


def is_better(challenger: Mapping[str, str], champion: Mapping[str, str]) -> bool:
    """By the tags of two versions: is the challenger's loss lower, by the same protocol on the same text?"""
    protocol = common_protocol(challenger, champion)
    is_same_text = challenger.get(VALIDATION_TAG) == champion.get(VALIDATION_TAG)
    return is_same_text and protocol != "" and _losses(challenger)[protocol] < _losses(champion)[protocol]


def common_protocol(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The protocol that compares two versions, by their tags; empty if there is none."""
    common = _losses(one).keys() & _losses(other).keys()
    return next((protocol for protocol in [*PROTOCOLS, *sorted(common)] if protocol in common), "")


def _candidates(client: "MlflowClient") -> tuple[str, dict[str, "ModelVersion"]]:
    """The number of the version that has the alias, if any, and all that may have it, by number, oldest first."""
    holder = client.get_registered_model(NAME).aliases.get(CHAMPION, "")
    found = sorted(client.search_model_versions(f"name = '{NAME}'"), key=_number)
    return str(holder), {str(one.version): one for one in found if one.tags.get(CHAMPION) != "no"}


def _losses(tags: Mapping[str, str]) -> dict[str, float]:
    found = {name.removesuffix(LOSS_SUFFIX): float(tags[name]) for name in tags if name.endswith(LOSS_SUFFIX)}
    return {protocol: math.inf if math.isnan(loss) else loss for protocol, loss in found.items()}


def _number(version: "ModelVersion") -> int:
    return int(version.version)


def _create_registered_model(client: "MlflowClient") -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(NAME, description=ABOUT)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _link(client: "MlflowClient", model_id: str, version: str) -> None:
    """Show the version on the logged model's page, as MLflow's own `register_model` does."""
    known = json.loads(client.get_logged_model(model_id).tags.get(VERSIONS_TAG, "[]"))
    if version not in [str(one["version"]) for one in known if one["name"] == NAME]:
        link = {"name": NAME, "version": int(version)}
        client.set_logged_model_tags(model_id, {VERSIONS_TAG: json.dumps([*known, link])})


def _update(client: "MlflowClient", version: "ModelVersion", tags: Mapping[str, str]) -> None:
    """Make the tags and the description say what `tags` do."""
    number, known = str(version.version), dict(version.tags)
    if known.get(VALIDATION_TAG) != tags[VALIDATION_TAG]:  # first the old losses go, then the text, then come the new
        for name in [name for name in known if name.endswith(LOSS_SUFFIX)]:
            client.delete_model_version_tag(NAME, number, name)
            del known[name]
    for name, value in tags.items():
        if known.get(name) != value:
            client.set_model_version_tag(NAME, number, name, value)
    description = _describe({**known, **tags}, version.run_id)
    if version.description != description:
        client.update_model_version(NAME, number, description)


def _describe(tags: Mapping[str, str], run_id: str) -> str:
    """Markdown: the losses, what they were measured on, and where the version comes from."""
    losses = [f"| {protocol} | {loss:.4f} |" for protocol, loss in sorted(_losses(tags).items())]
    rest = [f"- {name}: {value}" for name, value in sorted(tags.items()) if not name.endswith(LOSS_SUFFIX)]
    return "\n".join(["| protocol | nats/char |", "|---|---|", *losses, "", f"- run: {run_id}", *rest])

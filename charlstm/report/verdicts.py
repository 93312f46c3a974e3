"""Is one of several reviewed models better? Their trainings by recipe, and in words what tells them apart."""

import statistics
from collections import defaultdict
from collections.abc import Sequence

from charlstm.evaluation.difference import Trained, by_recipe, compare, why_no_interval
from charlstm.report.comparison import differences
from charlstm.report.document import PROTOCOL, Candidate, ReviewDocument
from charlstm.sections import NOT_OF_A_MODEL, SEED


def verdicts(candidates: Sequence[Candidate]) -> list[str]:
    """What can be said, a line each; nothing where losses cannot be compared."""
    is_one_text = len({one.document.validation_sha256 for one in candidates}) == 1
    if len(candidates) < 2 or not is_one_text or not all(PROTOCOL in one.document.losses for one in candidates):
        return []
    by_model: dict[str, list[Candidate]] = defaultdict(list)
    for one in candidates:
        by_model[one.document.model_sha256].append(one)
    same = [[one.label for one in alike] for alike in by_model.values() if len(alike) > 1]
    lines = [f"{' and '.join(labels)}: no difference, they are the same model." for labels in same]
    models = [alike[0] for alike in by_model.values()]
    groups = recipes_of(models)
    if len(groups) > 1:
        lines += [f"by {PROTOCOL}: {one}" for one in compare(groups)] + why_no_interval(groups)
    elif len(models) > 1:
        losses = groups[0].losses
        lines.append(
            f"{len(losses)} seeds of one recipe: {statistics.fmean(losses):.4f} nats per character, standard deviation "
            f"{statistics.stdev(losses):.4f}. Nothing but the seed tells them apart."
        )
    return lines


def recipes_of(models: Sequence[Candidate]) -> list[Trained]:
    """Different models by recipe, with a name for each."""
    groups = by_recipe(models, lambda one: _recipe(one.document), lambda one: one.document.parameters.get(SEED))
    firsts = [group[0].document for group in groups]
    without_seed = [one.model_copy(update={"parameters": {**one.parameters, SEED: None}}) for one in firsts]
    words = differences(without_seed, [group[0].recipe for group in groups])
    names = [_name(group, word) for group, word in zip(groups, words, strict=True)]
    return [
        Trained(
            name if names.count(name) == 1 else " and ".join(one.label for one in group),
            [one.loss for one in group],
            [one.own_blocks() for one in group],
        )
        for group, name in zip(groups, names, strict=True)
    ]


def _recipe(document: ReviewDocument) -> str:
    """What makes a model besides the seed."""
    made = {name: value for name, value in document.parameters.items() if not name.startswith(NOT_OF_A_MODEL)}
    return repr((document.corpus_sha256, sorted((name, value) for name, value in made.items() if name != SEED)))


def _name(group: Sequence[Candidate], words: str) -> str:
    if len(group) == 1:
        return group[0].label
    return f"{words or group[0].label} ({len(group)} seeds)"

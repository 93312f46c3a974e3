"""Several reviewed models as one page: whether one is better, what differs, and their texts side by side."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from charlstm.evaluation.difference import RecipeLosses, by_recipe, compare
from charlstm.evaluation.plots import losses_svg
from charlstm.evaluation.results import HEADLINE
from charlstm.parameter_names import MAX_NAMED, NOT_OF_A_MODEL, SEED, differing, values_in_words
from charlstm.report.document import ReviewDocument, ReviewedModel, Sample, Value
from charlstm.report.page import environment

MAX_RUNS = 10  # colors that can be told apart, columns that can be read


class TableRow(NamedTuple):
    """A name, and what each model has there."""

    name: str
    cells: list[Value]


class Group(NamedTuple):
    """The texts that were drawn alike; None where a model has none."""

    prompt: str
    temperature: float
    seed: int
    texts: list[Sample | None]


def comparison_of(candidates: Sequence[ReviewedModel]) -> str:
    """The page of at most MAX_RUNS models as text, each called by what differs."""
    documents = [one.document for one in candidates]
    temperatures = {
        row.temperature for one in documents for row in one.figures if row.temperature is not None
    }
    page = environment().get_template("comparison.html")
    return page.render(
        labels=labels_of(candidates),
        names=[one.label for one in candidates],
        documents=documents,
        picture=losses_svg([one.curves for one in documents]),
        parameters=parameter_rows(documents),
        losses=loss_rows(documents),
        verdicts=verdicts(candidates),
        is_one_text=len({one.validation_sha256 for one in documents}) == 1,
        temperatures=[*sorted(temperatures), None],
        by_temperature=[{row.temperature: row for row in one.figures} for one in documents],
        groups=groups_of(documents),
    )


def labels_of(candidates: Sequence[ReviewedModel]) -> list[str]:
    """What differs between the models, if that tells them apart; else what the user called them."""
    words = differences([one.document for one in candidates], [one.recipe for one in candidates])
    if all(words) and len(set(words)) == len(words):
        return words
    pairs = zip((one.label for one in candidates), words, strict=True)
    labels = [" \N{MIDDLE DOT} ".join(filter(None, pair)) for pair in pairs]
    return [
        f"{label} ({labels[: index + 1].count(label)})" if labels.count(label) > 1 else label
        for index, label in enumerate(labels)
    ]


def differences(documents: Sequence[ReviewDocument], recipes: Sequence[str | None]) -> list[str]:
    """Each model's differences from the others, in a few words: `hidden_size 64`; empty where nothing differs.

    Where many parameters differ, it is the recipe's name, if all are known, and else nothing.
    """
    columns = [one.parameters for one in documents]
    names = [name for name in differing(columns) if not name.startswith(NOT_OF_A_MODEL)]
    has_corpus = len({one.corpus_sha256 for one in documents}) > 1
    words = []
    for document, recipe in zip(documents, recipes, strict=True):
        named = values_in_words(
            {name: document.parameters[name] for name in names if name in document.parameters}
        )
        own = named if len(names) <= MAX_NAMED else "" if None in recipes else recipe
        words.append(", ".join(filter(None, [document.corpus if has_corpus else "", own])))
    return words


def verdicts(candidates: Sequence[ReviewedModel]) -> list[str]:
    """What can be said, a line each; nothing where losses cannot be compared."""
    is_one_text = len({one.document.validation_sha256 for one in candidates}) == 1
    if (
        len(candidates) < 2
        or not is_one_text
        or not all(HEADLINE in one.document.losses for one in candidates)
    ):
        return []
    candidates = [
        one._replace(label=label)
        for one, label in zip(candidates, labels_of(candidates), strict=True)
    ]
    groups = recipes_of(candidates)
    if len(groups) > 1:
        return list(map(str, compare(groups)))
    losses = groups[0].losses
    spread = f"{statistics.fmean(losses):.4f} nats per character, standard deviation {statistics.stdev(losses):.4f}"
    return [f"{len(losses)} seeds of one recipe: {spread}. Nothing but the seed tells them apart."]


def recipes_of(models: Sequence[ReviewedModel]) -> list[RecipeLosses]:
    """Different models by recipe, with a name for each."""
    groups = by_recipe(
        models, lambda one: _recipe(one.document), lambda one: one.document.parameters.get(SEED)
    )
    firsts = [group[0].document for group in groups]
    without_seed = [
        one.model_copy(update={"parameters": {**one.parameters, SEED: None}}) for one in firsts
    ]
    words = differences(without_seed, [group[0].recipe for group in groups])
    trained = []
    for group, word in zip(groups, words, strict=True):
        name = word if word and words.count(word) == 1 else " and ".join(one.label for one in group)
        seeds = f" ({len(group)} seeds)" if len(group) > 1 else ""
        trained.append(
            RecipeLosses(name + seeds, [one.loss for one in group], [one.blocks for one in group])
        )
    return trained


def _recipe(document: ReviewDocument) -> str:
    """What makes a model besides the seed."""
    made = {
        name: value
        for name, value in document.parameters.items()
        if not name.startswith(NOT_OF_A_MODEL)
    }
    return repr(
        (
            document.corpus_sha256,
            sorted((name, value) for name, value in made.items() if name != SEED),
        )
    )


def parameter_rows(documents: Sequence[ReviewDocument]) -> list[TableRow]:
    """The parameters that are not the same everywhere; a model that lacks one has an empty cell."""
    columns = [one.parameters for one in documents]
    return [TableRow(name, [one.get(name, "") for one in columns]) for name in differing(columns)]


def loss_rows(documents: Sequence[ReviewDocument]) -> list[TableRow]:
    """Nats per character by protocol, the headline first."""
    protocols = dict.fromkeys(
        [HEADLINE, *(protocol for one in documents for protocol in one.losses)]
    )
    return [
        TableRow(
            name,
            [one.losses[name].nats_per_char if name in one.losses else None for one in documents],
        )
        for name in protocols
    ]


def groups_of(documents: Sequence[ReviewDocument]) -> list[Group]:
    """Texts by prompt, temperature and seed, in the order in which they come up."""
    columns = [
        {(one.prompt, one.temperature, one.seed): one for one in document.samples}
        for document in documents
    ]
    keys = dict.fromkeys(key for column in columns for key in column)
    return [Group(*key, [column.get(key) for column in columns]) for key in keys]

"""The comparison of several reviewed models: one page with verdicts, differences and texts."""

from collections.abc import Sequence
from typing import NamedTuple

from charlstm.evaluation.difference import RecipeLosses, by_recipe, compare, mean_and_deviation
from charlstm.evaluation.plots import losses_svg
from charlstm.evaluation.results import HEADLINE
from charlstm.parameter_names import MAX_NAMED, NOT_OF_A_MODEL, SEED, differing, values_in_words
from charlstm.report.document import ReviewDocument, ReviewedModel, Sample, Value
from charlstm.report.page import environment

MAX_RUNS = 10  # more colors are hard to distinguish, and more columns are hard to read


class TableRow(NamedTuple):
    """A table row with a name and one cell per model."""

    name: str
    cells: list[Value]


class Group(NamedTuple):
    """The texts that all models generated with the same prompt, temperature and seed."""

    prompt: str
    temperature: float
    seed: int
    texts: list[Sample | None]
    """One text per model, None if a model has no such text."""


def comparison_of(candidates: Sequence[ReviewedModel]) -> str:
    """Return an HTML page that compares up to `MAX_RUNS` models, labeled by their differences."""
    documents = [model.document for model in candidates]
    figures = [{row.temperature: row for row in document.figures} for document in documents]
    temperatures = {one for rows in figures for one in rows if one is not None}
    page = environment().get_template("comparison.html")
    return page.render(
        labels=labels_of(candidates),
        names=[model.label for model in candidates],
        documents=documents,
        picture=losses_svg([document.curves for document in documents]),
        parameters=parameter_rows(documents),
        losses=loss_rows(documents),
        verdicts=verdicts(candidates),
        is_one_text=_is_one_text(documents),
        temperatures=[*sorted(temperatures), None],
        by_temperature=figures,
        groups=groups_of(documents),
    )


def verdicts(candidates: Sequence[ReviewedModel]) -> list[str]:
    """Return sentences that compare the losses, or an empty list if they cannot be compared."""
    documents = [model.document for model in candidates]
    are_measured = all(HEADLINE in document.losses for document in documents)
    if len(documents) < 2 or not _is_one_text(documents) or not are_measured:
        return []
    labels = labels_of(candidates)
    groups = recipes_of(
        [model._replace(label=label) for model, label in zip(candidates, labels, strict=True)]
    )
    if len(groups) > 1:
        return list(map(str, compare(groups)))
    losses = groups[0].losses
    mean = f"{mean_and_deviation(losses)} nats per character"
    return [f"{len(losses)} seeds of one recipe: {mean}. They differ only in the seed."]


def _is_one_text(documents: Sequence[ReviewDocument]) -> bool:
    return len({document.validation_sha256 for document in documents}) == 1


def labels_of(candidates: Sequence[ReviewedModel]) -> list[str]:
    """Return a unique label for each model, which says how the model differs from the others.

    If the descriptions are not unique, each label begins with the user's name for the model.
    """
    words = differences(candidates, NOT_OF_A_MODEL)
    if all(words) and len(set(words)) == len(words):
        return words
    pairs = zip((model.label for model in candidates), words, strict=True)
    labels = [" \N{MIDDLE DOT} ".join(filter(None, pair)) for pair in pairs]
    return [
        f"{label} ({labels[: index + 1].count(label)})" if labels.count(label) > 1 else label
        for index, label in enumerate(labels)
    ]


def differences(models: Sequence[ReviewedModel], ignored: tuple[str, ...]) -> list[str]:
    """Describe each model's differences from the others in a few words, such as `hidden_size 64`.

    Parameters whose names begin with one of `ignored` are left out.
    If more than `MAX_NAMED` parameters differ, use the recipes' names if all are known. A
    description is empty if no difference is known.
    """
    documents = [model.document for model in models]
    columns = [document.parameters for document in documents]
    names = [name for name in differing(columns) if not name.startswith(ignored)]
    has_corpora = len({document.corpus_sha256 for document in documents}) > 1
    recipes = [model.recipe or "" for model in models]
    words = []
    for document, recipe, parameters in zip(documents, recipes, columns, strict=True):
        own = recipe if all(recipes) else ""
        if len(names) <= MAX_NAMED:
            own = values_in_words({name: parameters[name] for name in names if name in parameters})
        words.append(", ".join(filter(None, [document.corpus if has_corpora else "", own])))
    return words


def recipes_of(models: Sequence[ReviewedModel]) -> list[RecipeLosses]:
    """Group the models' losses by recipe, and give each recipe a unique name."""
    groups = by_recipe(
        models, lambda one: _recipe(one.document), lambda one: one.document.parameters.get(SEED)
    )
    words = differences([group[0] for group in groups], (*NOT_OF_A_MODEL, SEED))
    recipes = []
    for group, word in zip(groups, words, strict=True):
        if not word or words.count(word) > 1:
            word = " and ".join(model.label for model in group)
        name = f"{word} ({len(group)} seeds)" if len(group) > 1 else word
        losses = [model.loss for model in group]
        recipes.append(RecipeLosses(name, losses, [model.blocks for model in group]))
    return recipes


def _recipe(document: ReviewDocument) -> str:
    """Return a key made of the corpus and all parameters that affect the model, except the seed."""
    decisive = [
        (name, value)
        for name, value in document.parameters.items()
        if not name.startswith((*NOT_OF_A_MODEL, SEED))
    ]
    return repr((document.corpus_sha256, sorted(decisive)))


def parameter_rows(documents: Sequence[ReviewDocument]) -> list[TableRow]:
    """Return a row for each parameter that differs. A missing parameter has an empty cell."""
    columns = [document.parameters for document in documents]
    return [TableRow(name, [one.get(name, "") for one in columns]) for name in differing(columns)]


def loss_rows(documents: Sequence[ReviewDocument]) -> list[TableRow]:
    """Return one row per protocol, with losses in nats per character. `HEADLINE` is first."""
    columns = [
        {name: loss.nats_per_char for name, loss in document.losses.items()}
        for document in documents
    ]
    protocols = dict.fromkeys([HEADLINE, *(name for column in columns for name in column)])
    return [TableRow(name, [column.get(name) for column in columns]) for name in protocols]


def groups_of(documents: Sequence[ReviewDocument]) -> list[Group]:
    """Group the texts by prompt, temperature and seed, in the order of the models' samples."""
    columns = [
        {(one.prompt, one.temperature, one.seed): one for one in document.samples}
        for document in documents
    ]
    keys = dict.fromkeys(key for column in columns for key in column)
    return [Group(*key, [column.get(key) for column in columns]) for key in keys]

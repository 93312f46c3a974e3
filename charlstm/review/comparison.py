"""The comparison of several reviewed models: one page with verdicts, differences and texts."""

from collections.abc import Sequence

from charlstm.evaluation.difference import RecipeLosses, by_recipe, compare, mean_and_deviation
from charlstm.evaluation.plots import losses_svg
from charlstm.evaluation.results import HEADLINE
from charlstm.parameter_names import MAX_NAMED, NOT_OF_A_MODEL, SEED, differing, values_in_words
from charlstm.review.document import Loss, ReviewDocument, ReviewedModel, Sample, Value
from charlstm.review.page import environment

MAX_RUNS = 10  # more colors are hard to distinguish, and more columns are hard to read
SampleKey = tuple[str, float, int]  # prompt, temperature, seed


def comparison_of(models: Sequence[ReviewedModel]) -> str:
    """Return an HTML page that compares up to `MAX_RUNS` models, labeled by their differences."""
    documents = [model.document for model in models]
    figures = [{row.temperature: row for row in document.figures} for document in documents]
    temperatures = {
        row.temperature
        for document in documents
        for row in document.figures
        if row.temperature is not None
    }
    page = environment().get_template("comparison.html")
    return page.render(
        labels=labels_of(models),
        names=[model.label for model in models],
        documents=documents,
        picture=losses_svg([document.curves for document in documents]),
        parameters=parameter_rows(documents),
        losses=loss_rows(documents),
        verdicts=verdicts(models),
        is_one_text=_is_one_text(models),
        temperatures=[*sorted(temperatures), None],
        by_temperature=figures,
        groups=groups_of(documents),
    )


def verdicts(models: Sequence[ReviewedModel]) -> list[str]:
    """Return sentences that compare the losses, or an empty list if they cannot be compared."""
    are_measured = all(HEADLINE in model.document.losses for model in models)
    if len(models) < 2 or not _is_one_text(models) or not are_measured:
        return []
    labels = labels_of(models)
    groups = recipes_of(
        [model._replace(label=label) for model, label in zip(models, labels, strict=True)]
    )
    if len(groups) > 1:
        return list(map(str, compare(groups)))
    losses = groups[0].losses
    mean = f"{mean_and_deviation(losses)} nats per character"
    return [f"{len(losses)} seeds of one recipe: {mean}. They differ only in the seed."]


def _is_one_text(models: Sequence[ReviewedModel]) -> bool:
    return len({model.document.validation_sha256 for model in models}) == 1


def labels_of(models: Sequence[ReviewedModel]) -> list[str]:
    """Return a label for each model, which says how the model differs from the others.

    If these descriptions are not unique, each label begins with the user's name for the model.
    """
    words = differences(models, NOT_OF_A_MODEL)
    if all(words) and len(set(words)) == len(words):
        return words
    return [
        f"{model.label} \N{MIDDLE DOT} {word}" if word else model.label
        for model, word in zip(models, words, strict=True)
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
    """Group the models' losses by recipe. The name of a recipe says how it differs from others."""
    groups = by_recipe(
        models,
        lambda model: _recipe(model.document),
        lambda model: model.document.parameters.get(SEED),
    )
    words = differences([group[0] for group in groups], (*NOT_OF_A_MODEL, SEED))
    recipes = []
    for group, word in zip(groups, words, strict=True):
        name = word
        if not word or words.count(word) > 1:
            name = " and ".join(model.label for model in group)
        if len(group) > 1:
            name = f"{name} ({len(group)} seeds)"
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


def parameter_rows(documents: Sequence[ReviewDocument]) -> dict[str, list[Value]]:
    """Return each differing parameter's value per model, which is empty if a model lacks it."""
    names = differing([document.parameters for document in documents])
    return {name: [document.parameters.get(name, "") for document in documents] for name in names}


def loss_rows(documents: Sequence[ReviewDocument]) -> dict[str, list[Loss | None]]:
    """Return each protocol's loss per model, with `HEADLINE` first."""
    protocols = dict.fromkeys(
        [HEADLINE, *(name for document in documents for name in document.losses)]
    )
    return {name: [document.losses.get(name) for document in documents] for name in protocols}


def groups_of(documents: Sequence[ReviewDocument]) -> dict[SampleKey, list[Sample | None]]:
    """Return each model's text, or None, for each prompt, temperature and seed."""
    columns = [
        {(sample.prompt, sample.temperature, sample.seed): sample for sample in document.samples}
        for document in documents
    ]
    keys = dict.fromkeys(key for column in columns for key in column)
    return {key: [column.get(key) for column in columns] for key in keys}

"""Sets a project up for a text, or back to a corpus that is there."""

import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CorpusError, ParamsError
from charlstm.files.atomic import write_text
from charlstm.files.documents import did_you_mean
from charlstm.params import NOTHING
from charlstm.sections import AUTO
from pipeline.dvc.paths import EXTENSION, load_paths
from pipeline.new.initial import InitialModel
from pipeline.new.proposal import FEW, Proposal, Text, Training, propose, training_for, training_within
from pipeline.new.source import DOCUMENT_SEPARATOR, Source, find_source, name_of, read
from pipeline.new.text_report import TextReport
from pipeline.stage import presets
from pipeline.stage.presets import CONF, CORPORA, RECIPES, load, names, path_of
from pipeline.stage.project import PARAMS


class New(NamedTuple):
    """What is to be written for a text, and lines that say what was found and why."""

    lines: list[str]
    files: dict[Path, str]
    initial: InitialModel | None

    def write(self) -> None:
        """Write the model to begin from and all files, `params.yaml` last; ParamsError if a training has begun."""
        presets.check_idle()
        if self.initial:
            self.initial.keep()
        for path, text in self.files.items():
            write_text(path.resolve() if path == PARAMS else path, text)  # a link stays one


def plan(
    text: str,
    name: str | None,
    encoding: str | None,
    initial: InitialModel | None = None,
    seconds: float | None = None,
    *,
    is_documents: bool,
    is_forced: bool,
) -> New:
    """Look at the text and make the parameters for it: for a training of so many seconds, or by its size."""
    presets.check_idle()
    paths = load_paths()
    try:
        source = find_source(text, {paths.corpus.parent, *(Path(path.parts[0]) for _, path in paths), CONF})
    except FileNotFoundError:
        corpora = names(CORPORA)
        near = did_you_mean(text, corpora)
        raise CorpusError(f"{text}: no such file, and no corpus{near}; corpora are {', '.join(corpora)}") from None
    name = _checked(name) if name is not None else _free_name(source, paths.corpus.parent)
    bases = {kind: load(kind, kind.root).values for kind in (CORPORA, RECIPES)}
    replaced = [str(path) for kind in bases if os.path.lexists(path := path_of(kind, name))]
    if not is_forced:
        if replaced:
            ways = f"`charlstm new {name}` uses it as it is, --force replaces it, another --name keeps both"
            raise ParamsError(f"{', '.join(replaced)}: there already: {ways}")
        for kind, values in bases.items():
            presets.check_kept(kind, values)
    report, digest = read(source, encoding)
    if is_documents and (len(source.files) < 2 or report.counts[DOCUMENT_SEPARATOR]):
        raise CorpusError(f"--documents: expected a folder of several files without form feeds, got {source.shown}")
    proposal = _proposal(report, bases[RECIPES], initial, seconds)
    corpus = {
        "download.name": name,
        "download.source": source.address,
        "download.watch": source.address if source.files else NOTHING,
        "download.sha256": digest,
        "download.encoding": report.encoding,
        "download.newlines": "lf" if report.num_crlf else "keep",
        "split.document_separator": DOCUMENT_SEPARATOR if is_documents else None,
        "evaluate.published": None,
        "sample.prompts": AUTO,
        **proposal.corpus,
    }
    found = [f"{ascii(source.shown)[1:-1]}:", *report.lines()]
    if len(source.files) > 1:
        between = "documents, each from a zero state" if is_documents else "files, as one text (or --documents)"
        found.append(f"{len(source.files)} {between}")
    files = {
        path_of(CORPORA, name): presets.preset_text("\n".join(found), corpus),
        path_of(RECIPES, name): presets.preset_text("\n".join(proposal.reasons), proposal.recipe),
        PARAMS: presets.params_with({**bases[CORPORA], **corpus, **bases[RECIPES], **proposal.recipe})[0],
    }
    why = ["proposal:", *proposal.reasons, *(f"replaces {path}" for path in replaced)]
    return New([*found, *why], files, initial)


def switch(name: str, is_forced: bool) -> str:
    """Take up a corpus of `conf/corpus/` again, with the recipe of its name or the default; that recipe's name."""
    presets.check_idle()
    recipe, values = name if name in names(RECIPES) else RECIPES.root, dict[str, object]()
    for kind, preset in ((CORPORA, name), (RECIPES, recipe)):
        values |= load(kind, preset).values
        if not is_forced:
            presets.check_kept(kind, values)
    write_text(PARAMS.resolve(), presets.params_with(values)[0])
    return recipe


def _checked(name: str) -> str:
    if name_of(name) != name or name in (CORPORA.root, RECIPES.root):
        raise ParamsError(
            f"--name: expected small letters, digits, - and _, and no name of the project's, got {name!r}"
        )
    return name


def _free_name(source: Source, outputs: Path) -> str:
    """A name made of the text's own, that no other corpus has."""
    base = name_of(source.stem)
    for number in count(1):
        name = base if number == 1 else f"{base}-{number}"
        if name in names(CORPORA) and load(CORPORA, name).values["download.source"] == source.address:
            break
        taken = (path_of(CORPORA, name), path_of(RECIPES, name), outputs / f"{name}{EXTENSION}")
        if not any(os.path.lexists(path) for path in taken):
            break
    return name


def _proposal(
    report: TextReport, quick: Mapping[str, object], initial: InitialModel | None, seconds: float | None
) -> Proposal:
    shape, text = initial and initial.trained.model.shape, Text(report.num_chars, list(report.counts.values()))
    if initial and initial.trained.vocab.unit == "byte":
        num_bytes = sum(num * len(character.encode()) for character, num in report.counts.items())
        text = Text(num_bytes, text.counts, "byte")
    if seconds is None:
        proposal = propose(text, quick, training_for(text, shape))
    else:
        from pipeline.new.timing import step_seconds  # it takes torch

        def seconds_of_step(training: Training) -> float:
            return step_seconds(presets.params_with({**quick, **training.recipe()})[1], text.vocab_size)

        training, planned = training_within(text, seconds, seconds_of_step, shape)
        proposal = propose(text, quick, training)
        took = f"about {int(planned) // 60}:{int(planned) % 60:02} minutes of training"
        step = f"{1000 * planned / training.num_steps:.0f} ms a step, with validation"
        proposal.reasons.append(f"{took}, as fast as this machine was just now: {step}")
        if planned < seconds / 2:
            proposal.reasons.append("the rest of the time would not help: more epochs or a wider model would do harm")
    if text.num_train < FEW and not initial:
        proposal.reasons.append("a short text: a model of a longer one in the same language helps more (--from MODEL)")
    return initial.begin(proposal, report.counts) if initial else proposal

"""Sets a project up for a text, or back to a corpus that is there.

A model to begin from is copied to `conf/initial/`, named by its weights' SHA-256. `dvc add` writes a small file next to
it, for git. So `dvc push`, `dvc pull` and a fresh clone have it.
"""

import os
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charlstm.corpus.fetch import local_path
from charlstm.errors import CharlstmError, CorpusError, ParamsError
from charlstm.files.atomic import atomic_folder, write_text
from charlstm.files.documents import did_you_mean
from charlstm.model.shape import CONFIG, WEIGHTS
from charlstm.params import AUTO, NOTHING
from charlstm.text.vocabulary_file import VOCAB
from pipeline import recipes
from pipeline.new.proposal import (
    FEW_TRAIN_CHARS,
    Proposal,
    TextCounts,
    Training,
    propose,
    training_for,
    training_within,
)
from pipeline.new.text import DOCUMENT_SEPARATOR, Source, TextReport, find_source, name_of, read
from pipeline.recipes import CONF, CORPORA, RECIPES, load, names, path_of
from pipeline.run.dvc import EXTENSION, ask_dvc, load_paths, reason_of
from pipeline.run.project import PARAMS
from pipeline.timing import step_seconds

if TYPE_CHECKING:  # torch takes a second to import: mistakes are reported first
    from charlstm.model.model_folder import TrainedModel

NAME_LENGTH = 12  # digits of the SHA-256
MIN_KNOWN = 0.5  # of a text; the model of Dickens knows 0.25 of the Russian one, and does harm: docs/benchmarks.md


class InitialModel(NamedTuple):
    """A trained model to begin from."""

    where: str  # as the user named it
    folder: Path  # its files, maybe a temporary copy
    trained: "TrainedModel"

    @classmethod
    def load(cls, where: str, folder: Path) -> "InitialModel":
        """The model in `folder`, which the user named `where`."""
        from charlstm.model.model_folder import load_model

        return cls(where, folder, load_model(folder, "gates"))

    @property
    def target(self) -> Path:
        """The folder in the project, which `train.initial` names."""
        return CONF / "initial" / self.trained.sha256[:NAME_LENGTH]

    def begin(self, proposal: Proposal, counts: Mapping[str, int]) -> Proposal:
        """`proposal`, for a text that has each of these characters so often, with this model to begin from."""
        vocab = self.trained.vocab
        known = (
            set(vocab.characters) & counts.keys() if vocab.unit == "character" else counts.keys()
        )
        reasons = [
            *proposal.reasons,
            f"begins from {self.where}, which knows {len(known):,} of these characters",
        ]
        if sum(counts[one] for one in known) < MIN_KNOWN * sum(counts.values()):
            reasons.append(
                "! it knows less than half of this text: without --from, the loss is lower"
            )
        recipe = {**proposal.recipe, "train.initial": str(self.target)}
        return Proposal(recipe, {**proposal.corpus, "encode.unit": vocab.unit}, reasons)

    def keep(self) -> None:
        """Copy it into the project, and let DVC know it; CharlstmError if DVC does not take it."""
        is_new = not self.target.exists()
        with atomic_folder(self.target) as temporary:
            for name in (WEIGHTS, CONFIG, VOCAB):
                shutil.copyfile(self.folder / name, temporary / name)
        done = ask_dvc("add", str(self.target))
        if (
            done.returncode or "ERROR" in done.stderr
        ):  # where its cache has no room, DVC may exit with 0
            if is_new:  # git does not ignore it yet
                shutil.rmtree(self.target)
                self.target.with_suffix(".dvc").unlink(missing_ok=True)
            raise CharlstmError(f"{self.target}: DVC does not take it: {reason_of(done)}")


class New(NamedTuple):
    """What is to be written for a text, and lines that say what was found and why."""

    lines: list[str]
    files: dict[Path, str]
    initial: InitialModel | None

    def write(self) -> None:
        """Write the model to begin from and all files, `params.yaml` last; ParamsError if a training has begun."""
        recipes.check_idle()
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
    recipes.check_idle()
    paths = load_paths()
    if (path := local_path(text)) is not None and not path.exists():
        corpora = names(CORPORA)
        near = did_you_mean(text, corpora)
        raise CorpusError(
            f"{text}: no such file, and no text of that name{near}; there are {', '.join(corpora)}"
        )
    source = find_source(
        text, {paths.corpus.parent, *(Path(path.parts[0]) for _, path in paths), CONF}
    )
    name = _checked(name) if name is not None else _free_name(source, paths.corpus.parent)
    bases = {kind: load(kind, kind.root).values for kind in (CORPORA, RECIPES)}
    replaced = [str(path) for kind in bases if os.path.lexists(path := path_of(kind, name))]
    if not is_forced:
        if replaced:
            ways = f"`charlstm new {name}` uses it as it is, --force replaces it, another --name keeps both"
            raise ParamsError(f"{', '.join(replaced)}: there already: {ways}")
        for kind, values in bases.items():
            recipes.check_kept(kind, values)
    report, digest = read(source, encoding)
    if is_documents and (len(source.files) < 2 or report.counts[DOCUMENT_SEPARATOR]):
        raise CorpusError(
            f"--documents: expected a folder of several files without form feeds, got {source.shown}"
        )
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
        between = (
            "documents, each from a zero state"
            if is_documents
            else "files, as one text (or --documents)"
        )
        found.append(f"{len(source.files)} {between}")
    files = {
        path_of(CORPORA, name): recipes.preset_text("\n".join(found), corpus),
        path_of(RECIPES, name): recipes.preset_text("\n".join(proposal.reasons), proposal.recipe),
        PARAMS: recipes.params_with(
            {**bases[CORPORA], **corpus, **bases[RECIPES], **proposal.recipe}
        )[0],
    }
    why = ["proposal:", *proposal.reasons, *(f"replaces {path}" for path in replaced)]
    return New([*found, *why], files, initial)


def switch(name: str, is_forced: bool) -> str:
    """Take up a corpus of `conf/corpus/` again, with the recipe of its name or the default; that recipe's name."""
    recipes.check_idle()
    recipe, values = name if name in names(RECIPES) else RECIPES.root, dict[str, object]()
    for kind, preset in ((CORPORA, name), (RECIPES, recipe)):
        values |= load(kind, preset).values
        if not is_forced:
            recipes.check_kept(kind, values)
    write_text(PARAMS.resolve(), recipes.params_with(values)[0])
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
        if (
            name in names(CORPORA)
            and load(CORPORA, name).values["download.source"] == source.address
        ):
            break
        taken = (path_of(CORPORA, name), path_of(RECIPES, name), outputs / f"{name}{EXTENSION}")
        if not any(os.path.lexists(path) for path in taken):
            break
    return name


def _proposal(
    report: TextReport,
    quick: Mapping[str, object],
    initial: InitialModel | None,
    seconds: float | None,
) -> Proposal:
    shape, text = (
        initial and initial.trained.model.shape,
        TextCounts(report.num_chars, list(report.counts.values())),
    )
    if initial and initial.trained.vocab.unit == "byte":
        num_bytes = sum(num * len(character.encode()) for character, num in report.counts.items())
        text = TextCounts(num_bytes, text.counts, "byte")
    if seconds is None:
        proposal = propose(text, quick, training_for(text, shape))
    else:

        def seconds_of_step(training: Training) -> float:
            return step_seconds(
                recipes.params_with({**quick, **training.recipe()})[1], text.vocab_size
            )

        training, planned = training_within(text, seconds, seconds_of_step, shape)
        proposal = propose(text, quick, training)
        took = f"about {planned / 60:.1f} minutes of training"
        step = f"{1000 * planned / training.num_steps:.0f} ms a step, with validation"
        proposal.reasons.append(f"{took}, as fast as this machine was just now: {step}")
        if planned < seconds / 2:
            proposal.reasons.append(
                "the rest of the time would not help: more epochs or a wider model would do harm"
            )
    if text.num_train < FEW_TRAIN_CHARS and not initial:
        proposal.reasons.append(
            "a short text: a model of a longer one in the same language helps more (--from MODEL)"
        )
    return initial.begin(proposal, report.counts) if initial else proposal

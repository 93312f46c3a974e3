"""Sets a project up for TEXT, or back to a corpus that is there."""

import filecmp
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charlstm.errors import CorpusError, ParamsError
from charlstm.files.atomic import atomic_folder, write_text
from charlstm.files.documents import did_you_mean
from charlstm.params import NOTHING, Params
from charlstm.sections import AUTO
from pipeline.dvc.paths import load_paths
from pipeline.new.budget import Budget, expected_loss, measure, plan_within, proposal_of
from pipeline.new.proposal import TRAIN_FRACTION, Proposal, Text, Training, propose, training_for
from pipeline.new.source import SEPARATOR, Source, document_separator, find_source, name_of, read
from pipeline.new.text_report import TextReport
from pipeline.stage.params_file import params_with, write_params
from pipeline.stage.presets import (
    CONF,
    CORPORA,
    RECIPES,
    WRITTEN,
    Kind,
    as_written,
    check_idle,
    check_kept,
    is_as_written,
    load,
    names,
    path_of,
    preset_text,
    read_own,
)
from pipeline.stage.project import PARAMS

if TYPE_CHECKING:  # torch takes a second to import: mistakes are told before
    from pipeline.new.initial import InitialModel

SOURCES = "sources"  # below the folder of the corpora: links to files


class New(NamedTuple):
    """All that is to be written for a text, and all that can be said of it."""

    source: Source
    report: TextReport
    proposal: Proposal
    files: dict[Path, str]
    links: Path | None
    separator: str | None  # of documents
    initial: "InitialModel | None"
    outdated: list[Path]  # a recipe that it wrote for this text before, and does not need now

    def replaced(self) -> list[Path]:
        """Files in `conf/` that are there, and will be gone or have something else."""
        own = {path: text for path, text in self.files.items() if path != PARAMS}
        changed = [path for path, text in own.items() if path.is_file() and path.read_bytes() != text.encode()]
        return changed + self.outdated

    def write(self) -> None:
        """Write the links, the model to begin from and all files, `params.yaml` last; remove what is in the way.

        Raises:
            ParamsError: a training has begun meanwhile.
        """
        check_idle()
        if self.links:
            width = max(5, len(str(len(self.source.files))))
            with atomic_folder(self.links) as folder:
                for number, file in enumerate(self.source.files, 1):
                    (folder / f"{number:0{width}}.txt").symlink_to(file)
        if self.initial:
            self.initial.keep()
        for path in self.outdated:
            path.unlink(missing_ok=True)
        for path, text in self.files.items():
            (write_params(text) if path == PARAMS else write_text(path, text))


def plan(
    texts: Sequence[str],
    name: str | None,
    encoding: str | None,
    initial: "InitialModel | None" = None,
    seconds: float | None = None,
    *,
    is_documents: bool,
    is_forced: bool,
) -> New:
    """Look at the text and make the parameters for it: for a training of so many seconds, or by the size of the text.

    Nothing is written.

    Raises:
        CharlstmError: it is no text, or too short; or a choice would be lost, in `params.yaml` or in a file of `conf/`.
    """
    check_idle()
    paths = load_paths()
    outputs = paths.corpus.parent
    source = _source_of(texts, {outputs, *(Path(path.parts[0]) for _, path in paths), CONF})
    report, digest = read(source, encoding)
    name = _free_name(source, name, outputs)
    separator = document_separator(source, report) if is_documents else None
    links = outputs.absolute() / SOURCES / name
    address = source.address(links)
    bases = {kind: load(kind, kind.root).values for kind in (CORPORA, RECIPES)}
    if seconds is not None and not is_forced:  # before steps are timed
        check_kept(RECIPES, bases[RECIPES])
    heading = f"Proposed for {name}, {'by its size' if seconds is None else f'for {_in_minutes(seconds)}'}."
    shown = source.shown if source.shown.isprintable() else ascii(source.shown)
    about = f"{shown}: {report.num_chars:,} characters, {len(report.counts):,} distinct ones."
    is_same = _is_of(name, source, outputs)
    of_text = _corpus_values(source, report, digest, name, address, separator)
    if initial and is_same and not is_forced:
        initial = initial.parent(name, paths) or initial
    kept = None
    if is_same and seconds is not None and not is_forced:
        kept = _planned_before(name, about, heading, of_text, initial)
    proposal = kept or _proposal(report, bases[RECIPES], name, initial, seconds)
    num_held_out = report.num_chars - int(TRAIN_FRACTION * report.num_chars)
    if initial and not kept and initial.has_read(report.ending[-num_held_out:], paths):
        proposal.reasons.append(
            f"! {initial.where} was trained on the end of this text: no loss here will be one of new text"
        )
    corpus = {**of_text, **proposal.corpus}
    files = _presets(name, about, heading, corpus, proposal)
    for path, text in files.items():
        _check_replaceable(path, text, is_same, is_forced)
    values = {CORPORA: {**bases[CORPORA], **corpus}, RECIPES: {**bases[RECIPES], **proposal.recipe}}
    outdated = [] if path_of(RECIPES, name) in files or not (is_same or is_forced) else _own_recipe(name)
    files[PARAMS] = _params(values, is_forced)
    kept_links = links if source.needs_links else None
    if kept_links and not is_same and kept_links.is_dir() and not all(one.is_symlink() for one in kept_links.iterdir()):
        raise ParamsError(f"{kept_links}: it has files of another text, not links to them: move them elsewhere")
    return New(source, report, proposal, files, kept_links, separator, initial, outdated)


def _in_minutes(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"


def _presets(name: str, about: str, heading: str, corpus: Mapping[str, object], proposal: Proposal) -> dict[Path, str]:
    """The files of the corpus and of its recipe; none of what has no values."""
    recipe_about = "\n".join([heading, *proposal.reasons])
    presets = [(CORPORA, about, corpus), (RECIPES, recipe_about, proposal.recipe)]
    return {
        path_of(kind, name): as_written(preset_text(comment, kind.root, values))
        for kind, comment, values in presets
        if values
    }


def _planned_before(
    name: str, about: str, heading: str, of_text: Collection[str], initial: "InitialModel | None"
) -> Proposal | None:
    """What was proposed for this text and time before, as it was written; None for nothing, or for another.

    `of_text` are the parameters that the text decides, not the proposal. A machine is never as fast as a moment ago. So
    the same command would train another model each time, and what an interrupted training has done would be lost.
    """
    try:
        corpus_about, corpus = read_own(path_of(CORPORA, name))
        recipe_about, recipe = read_own(path_of(RECIPES, name))
    except (OSError, ParamsError):  # missing, edited, or of a version with other parameters
        return None
    begins_from = str(initial.target) if initial else NOTHING
    is_this = corpus_about == [about] and recipe_about[0] == heading
    if not is_this or recipe.get("train.initial", NOTHING) != begins_from:
        return None
    proposed = {parameter: value for parameter, value in corpus.items() if parameter not in of_text}
    return Proposal(recipe, proposed, recipe_about[1:], None)


def _own_recipe(name: str) -> list[Path]:
    """The recipe that it wrote for this text before, if nobody has edited it."""
    path = path_of(RECIPES, name)
    return [path] if path.is_file() and is_as_written(path.read_text("utf-8", "replace")) else []


def _corpus_values(
    source: Source, report: TextReport, digest: str | None, name: str, address: str, separator: str | None
) -> dict[str, object]:
    """The parameters of the text itself."""
    return {
        "download.name": name,
        "download.source": address,
        "download.watch": NOTHING if source.url else address,
        "download.sha256": digest,
        "download.encoding": report.encoding,
        "download.newlines": "lf" if report.num_crlf else "keep",
        "download.separator": separator or SEPARATOR,
        "download.fallback": None,
        "split.document_separator": separator,
        "evaluate.published": None,
        "sample.prompts": AUTO,
    }


def _source_of(texts: Sequence[str], own: Collection[Path]) -> Source:
    try:
        return find_source(texts, own)
    except FileNotFoundError as error:
        corpora = names(CORPORA)
        near = did_you_mean(texts[0], corpora) if len(texts) == 1 else ""
        raise CorpusError(
            f"{error.filename}: there is no such file, and no corpus of that name{near}; "
            f"corpora are {', '.join(corpora)}"
        ) from None


def _proposal(
    report: TextReport,
    quick: Mapping[str, object],
    name: str,
    initial: "InitialModel | None",
    seconds: float | None,
) -> Proposal:
    shape, text = initial and initial.shape, Text(report.num_chars, list(report.counts.values()))
    if initial and initial.vocab.unit == "byte":
        counts = Counter[int]()
        for character, count in report.counts.items():
            for byte in character.encode():
                counts[byte] += count
        text = Text(counts.total(), list(counts.values()), "byte")
    if seconds is None:
        proposal = propose(text, quick, training_for(text, shape))
    else:

        def params_of(training: Training) -> Params:
            return params_with({**quick, **training.recipe()})[1]

        plan = plan_within(Budget(text, seconds, shape), params_of, measure)
        proposal = proposal_of(plan, text, quick)
        if plan.seconds < seconds / 2:
            proposal.reasons.append("the rest of the time would not help: more epochs or a wider model would do harm")
        proposal.reasons.extend(expected_loss(report.ending, seconds))
    return initial.begin(proposal, report.counts) if initial else proposal


def switch(name: str, is_forced: bool) -> str:
    """Take up a corpus of `conf/corpus/` again, with the recipe of its name or the default; that recipe's name."""
    check_idle()
    recipe = name if name in names(RECIPES) else RECIPES.root
    values = {CORPORA: load(CORPORA, name).values, RECIPES: load(RECIPES, recipe).values}
    write_params(_params(values, is_forced))
    return recipe


def _check_replaceable(path: Path, text: str, is_same: bool, is_forced: bool) -> None:
    """Check that `text` may be written to `path`; `is_same`: what is there is of the same source."""
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if os.path.lexists(path) and WRITTEN not in before:
        raise ParamsError(f"{path}: it was not written by `charlstm new`, and stays as it is: take another --name")
    if before in ("", text) or is_forced:
        return
    if not is_as_written(before):
        raise ParamsError(f"{path}: it was edited, and stays: take another --name, or --force to write over it")
    if not is_same:
        raise ParamsError(f"{path}: it is of another text, and stays: take another --name, or --force to write over it")


def _params(presets: Mapping[Kind, Mapping[str, object]], is_forced: bool) -> str:
    """`params.yaml` with both presets in it."""
    if not is_forced:
        for kind, values in presets.items():
            check_kept(kind, values)
    text, _ = params_with({name: value for values in presets.values() for name, value in values.items()})
    return text


def _free_name(source: Source, name: str | None, outputs: Path) -> str:
    """The name that is told; or one of the text's own, that no other corpus has."""
    if name is not None:
        if name_of(name) != name:
            raise ParamsError(
                f"--name: expected small letters, digits, - and _, got {name!r}; {name_of(name)} would do"
            )
        return name
    wanted, number = name_of(source.stem), 1
    while True:
        free = wanted if number == 1 else f"{wanted}-{number}"
        taken = (path_of(CORPORA, free), path_of(RECIPES, free), outputs / f"{free}.txt")
        if not any(os.path.lexists(path) for path in taken) or _is_of(free, source, outputs):
            return free
        number += 1


def _is_of(name: str, source: Source, outputs: Path) -> bool:
    """Whether a corpus of that name is there, and of this very source."""
    if name not in names(CORPORA):
        return False
    links = outputs.absolute() / SOURCES / name
    try:
        address = str(load(CORPORA, name).values["download.source"])
    except ParamsError:  # damaged
        return False
    if not source.needs_links:
        return address == source.address(links)
    # Of several files, the address says only the name, and where the checkout was then: it may have been moved.
    if not (there := sorted(links.iterdir()) if links.is_dir() else []):
        return address == source.address(links)
    are_these = len(there) == len(source.files) and all(map(_leads_to, there, source.files))
    return are_these and Path(address).parts[-3:] == links.parts[-3:]


def _leads_to(link: Path, file: Path) -> bool:
    """Whether a link leads to the file, or is a copy of it: what copies a checkout may follow links."""
    return link.readlink() == file if link.is_symlink() else filecmp.cmp(link, file, shallow=False)

"""From TEXT to a project that is set up for it; or back to a corpus that is there."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CorpusError, DownloadError, ParamsError
from charlstm.files.atomic import atomic_folder, sha256, write_all_or_none
from charlstm.files.documents import did_you_mean
from charlstm.params import Params
from charlstm.sections import AUTO
from charlstm.text.download import fetch
from charlstm.text.inspection import Findings
from pipeline.dvc.paths import NOTHING, load_paths
from pipeline.new.looking import Look, Source, find_source, look_at, name_of, newlines_for
from pipeline.new.proposal import MIN_CHARS, Proposal, propose
from pipeline.stage.params_file import PARAMS
from pipeline.stage.presets import (
    CONF,
    CORPORA,
    RECIPES,
    Kind,
    check_kept,
    check_no_training,
    load,
    names,
    params_with,
    path_of,
    preset_text,
)

# The files of a new corpus: what they say, whether they may be written over; all of them are written, or none.

MARK = "# Written by `charlstm new`, which writes it anew only if it is as it was: "
MARK_DIGITS = 16


def write_all(files: Mapping[Path, str], links: Path | None = None, targets: Sequence[Path] = ()) -> None:
    """Write `files`, and `links`, a folder of links to `targets` in their order. What fails leaves all as it was.

    The last step, a rename by which the links take their place, undoes no file if it fails.

    Raises:
        OSError: as the operating system has it.
    """
    for path in files:
        if path.is_dir():
            raise IsADirectoryError(None, "expected a file, found a folder", str(path))
    with ExitStack() as stack:
        if links:
            folder = stack.enter_context(atomic_folder(links))
            for number, target in enumerate(targets, 1):
                (folder / link_name(number, target)).symlink_to(target)
        write_all_or_none(files)


def link_name(number: int, target: Path) -> str:
    """A name that sorts by `number`, from 1, and that a parameter can hold."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in target.name)
    return f"{number:05}-{plain[-100:]}"


def corpus_file(about: str, values: Mapping[str, object]) -> str:
    """`conf/corpus/NAME.yaml`; `values` by dotted name. Each line of `about` is shown."""
    return _with_mark(preset_text(about, CORPORA.root, values))


def recipe_file(about: str, changes: Mapping[str, object]) -> str:
    """`conf/recipe/NAME.yaml`: the recipe quick with `changes`, by dotted name."""
    return _with_mark(preset_text(about, RECIPES.root, changes))


def is_ours(path: Path) -> bool:
    """Whether `charlstm new` wrote the file, and nobody has changed it since."""
    text = path.read_text(encoding="utf-8", errors="replace")
    body, mark, _ = text.rpartition(MARK)
    return bool(mark) and _with_mark(body) == text


def was_ours(path: Path) -> bool:
    """Whether `charlstm new` wrote the file at first; it may have been changed since."""
    return MARK in path.read_text(encoding="utf-8", errors="replace")


def _with_mark(body: str) -> str:
    return f"{body}{MARK}{hashlib.sha256(body.encode()).hexdigest()[:MARK_DIGITS]}\n"


# From TEXT to the files.

SOURCES = "sources"  # below the folder of the corpora: links to files
MAX_FIRST_DOCUMENT = 0.8  # of the bytes: the training part has 0.9 of the characters
SEPARATOR = "\n"  # between files that are one text
DOCUMENT_SEPARATORS = ("\f", "\x1e", "\x1d", "\x1c")  # control characters that Unicode and ASCII have for such ends


class New(NamedTuple):
    """What is to be written for a text, and all that can be said of it."""

    name: str
    recipe: str
    source: Source
    look: Look
    proposal: Proposal
    params: Params
    files: dict[Path, str]
    links: Path | None
    separator: str | None  # of documents

    def write(self) -> None:
        """All of it, or nothing."""
        write_all(self.files, self.links, self.source.files)


def plan(texts: Sequence[str], name: str | None, encoding: str | None, is_documents: bool, is_forced: bool) -> New:
    """Look at the text and make the parameters for it. Nothing is written.

    Raises:
        CharlstmError: it is no text, or too short; or a choice would be lost, in `params.yaml` or in a file of `conf/`.
    """
    check_no_training()
    paths = load_paths(Path("dvc.yaml"))
    outputs = paths.corpus.parent
    try:
        source = find_source(texts, {outputs, *(Path(path.parts[0]) for _, path in paths), CONF})
    except FileNotFoundError as error:
        corpora = names(CORPORA)
        near = did_you_mean(texts[0], corpora) if len(texts) == 1 else ""
        raise DownloadError(
            f"{error.filename}: there is no such file, and no corpus of that name{near}; "
            f"corpora are {', '.join(corpora)}"
        ) from None
    look, digest = _look(source, encoding)
    if look.findings.num_chars < MIN_CHARS:
        raise CorpusError(
            f"{source.shown}: expected at least {MIN_CHARS} characters, found {look.findings.num_chars}: "
            f"a model learns nothing from so few"
        )
    if len(look.findings.counts) < 2:
        raise CorpusError(f"{source.shown}: expected a text, found {next(iter(look.findings.counts))!r} over and over")
    name = _free_name(source, name, outputs)
    separator = _document_separator(source, look.findings) if is_documents else None
    links = outputs.absolute() / SOURCES / name if source.needs_links else None
    where = _where(source, links)
    proposal = propose(look.findings.num_chars, list(look.findings.counts.values()))
    corpus: dict[str, object] = {
        "download.name": name,
        "download.source": where,
        "download.watch": NOTHING if source.url else where,
        "download.sha256": digest,
        "download.encoding": look.encoding,
        "download.newlines": newlines_for(look.findings),
        "download.separator": separator or SEPARATOR,
        "download.fallback": None,
        "split.document_separator": separator,
        "evaluate.published": None,
        "sample.prompts": AUTO,
        **proposal.corpus,
    }
    files = {path_of(CORPORA, name): corpus_file(_about(source, look), corpus)}
    recipe = RECIPES.root
    if proposal.recipe:
        recipe = name
        about = f"Proposed for {name}, by its size.\n" + "\n".join(proposal.reasons)
        files[path_of(RECIPES, name)] = recipe_file(about, proposal.recipe)
    for path in files:
        _check_replaceable(path, is_forced)
    values = {
        CORPORA: {**load(CORPORA, CORPORA.root).values, **corpus},
        RECIPES: {**load(RECIPES, RECIPES.root).values, **proposal.recipe},
    }
    text, params = _params(values, is_forced)
    return New(name, recipe, source, look, proposal, params, {**files, PARAMS: text}, links, separator)


def switch(name: str, is_forced: bool) -> str:
    """Take up a corpus of `conf/corpus/` again, with the recipe of its name or the default; that recipe's name."""
    check_no_training()
    recipe = name if name in names(RECIPES) else RECIPES.root
    text, _ = _params({CORPORA: load(CORPORA, name).values, RECIPES: load(RECIPES, recipe).values}, is_forced)
    write_all({PARAMS: text})
    return recipe


def _params(presets: Mapping[Kind, Mapping[str, object]], is_forced: bool) -> tuple[str, Params]:
    """`params.yaml` with both presets in it."""
    if not is_forced:
        for kind, values in presets.items():
            check_kept(kind, values)
    return params_with({name: value for values in presets.values() for name, value in values.items()})


def _look(source: Source, encoding: str | None) -> tuple[Look, str | None]:
    """What the text is; and the SHA-256 of what a URL gave, to hold it to."""
    if source.url is None:
        return look_at(source.files, SEPARATOR, encoding), None
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        file = fetch(source.url, Path(folder), show_progress=sys.stderr.isatty())
        try:
            return look_at([file], SEPARATOR, encoding), sha256(file)
        except CorpusError as error:  # a temporary file's name says nothing
            raise CorpusError(str(error).replace(str(file), source.shown)) from None


def _where(source: Source, links: Path | None) -> str:
    if source.url:
        return source.url
    if links:
        return str(links if len(source.files) > 1 else links / link_name(1, source.files[0]))
    return str(source.folder or source.files[0])


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
        links = outputs.absolute() / SOURCES / free
        taken = (path_of(CORPORA, free), path_of(RECIPES, free), outputs / f"{free}.txt")
        is_free = not any(os.path.lexists(one) for one in taken)
        if is_free or (free in names(CORPORA) and _is_source_of(free, source, links)):
            return free
        number += 1


def _is_source_of(name: str, source: Source, links: Path) -> bool:
    """Whether a corpus is of the same text, however that is spelled."""
    values = load(CORPORA, name).values
    known, where = str(values["download.source"]), _where(source, links if source.needs_links else None)
    if source.url or "://" in known:
        return known == where
    return Path(known).expanduser().resolve() == Path(where).resolve()


def _check_replaceable(path: Path, is_forced: bool) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_file() or not was_ours(path):
        raise ParamsError(f"{path}: it was not written by `charlstm new`, and stays as it is: take another --name")
    if not is_forced and not is_ours(path):
        raise ParamsError(
            f"{path}: it was edited, and stays as it is: take another --name, or --force to write over it"
        )


def _document_separator(source: Source, findings: Findings) -> str:
    if len(source.files) < 2:
        raise CorpusError(f"--documents: expected several files, each a document, got {source.shown}")
    sizes = [file.stat().st_size for file in source.files]
    if sizes[0] > MAX_FIRST_DOCUMENT * sum(sizes):
        raise CorpusError(
            f"--documents: {source.files[0]} is nearly the whole text, so no document begins in the training part: "
            f"put it last, or leave --documents away"
        )
    free = [one for one in DOCUMENT_SEPARATORS if not findings.counts[one]]
    if not free:
        raise CorpusError(f"--documents: {source.shown} has every separator that could be used: take one of them out")
    return free[0]


def _about(source: Source, look: Look) -> str:
    found = look.findings
    shown = source.shown if source.shown.isprintable() else ascii(source.shown)
    return f"{shown}: {found.num_chars:,} characters, {len(found.counts):,} distinct ones."

"""The parameters that `charlstm new` writes, for a new text or for a corpus in `conf/corpus/`.

An initial model is copied to `conf/initial/`, into a folder named by its weights' SHA-256.
`dvc add` writes a small `.dvc` file next to the folder, for git. So `dvc push`, `dvc pull` and a
fresh clone include the model.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charlstm.errors import CharlstmError, ParamsError
from charlstm.files.atomic import atomic_folder, write_text
from charlstm.params import AUTO, NOTHING
from pipeline.new import rules
from pipeline.new.proposal import (
    Proposal,
    TextCounts,
    propose,
    training_for,
)
from pipeline.new.text import TextReport, find_source, name_of, read
from pipeline.new.training_time import step_seconds, training_within
from pipeline.recipes import (
    CONF,
    CORPORA,
    RECIPES,
    check_idle,
    check_kept,
    load,
    names,
    params_with,
    path_of,
    preset_text,
)
from pipeline.run.dvc import ask_dvc, load_paths, reason_of
from pipeline.run.project import PARAMS

if TYPE_CHECKING:  # importing torch takes a second, so report mistakes first
    from charlstm.model.model_folder import TrainedModel

NAME_LENGTH = 12  # number of SHA-256 digits in a folder's name
# Smallest fraction of the text's characters that should be in the initial model's vocabulary.
MIN_KNOWN = 0.5


class InitialModel(NamedTuple):
    """A trained model from whose weights another training starts."""

    where: str  # the model's name, as the user typed it
    folder: Path  # the model's files, possibly a temporary copy
    trained: "TrainedModel"

    @classmethod
    def load(cls, where: str, folder: Path) -> "InitialModel":
        """Load the model in `folder`. Error messages use `where`, the name that the user typed."""
        from charlstm.model.model_folder import load_model

        return cls(where, folder, load_model(folder, "gates"))

    @property
    def target(self) -> Path:
        """The model's folder in the project, which is the value of `train.initial`."""
        return CONF / "initial" / self.trained.sha256[:NAME_LENGTH]

    def begin(self, proposal: Proposal, counts: Mapping[str, int]) -> Proposal:
        """Return the proposal, changed so that training starts from this model.

        `counts` has the number of occurrences of each character of the text.
        """
        vocab = self.trained.vocab
        known = set(counts)
        if vocab.unit == "character":
            known &= set(vocab.characters)
        reasons = [
            *proposal.reasons,
            f"starts from {self.where}, whose vocabulary has {len(known):,} of the distinct "
            "characters",
        ]
        if sum(counts[character] for character in known) < MIN_KNOWN * sum(counts.values()):
            reasons.append(
                "! less than half of the text's characters are in the model's vocabulary: training "
                "without --from is better"
            )
        recipe = {**proposal.recipe, "train.initial": str(self.target)}
        return Proposal(recipe, {**proposal.corpus, "encode.unit": vocab.unit}, reasons)

    def keep(self) -> None:
        """Copy the model into the project, and add it to DVC.

        Raises:
            CharlstmError: `dvc add` failed.
        """
        from charlstm.model.model_folder import copy_model

        with atomic_folder(self.target) as temporary:
            copy_model(self.folder, temporary)
        done = ask_dvc("add", str(self.target))
        # DVC may exit with code 0 even if the disk that holds its cache is full.
        if done.returncode or "ERROR" in done.stderr:
            raise CharlstmError(f"{self.target}: `dvc add` failed: {reason_of(done)}")


class New(NamedTuple):
    """The files to write for a text, and lines that report on the text and explain the files."""

    lines: list[str]
    files: dict[Path, str]
    initial: InitialModel | None

    def write(self) -> None:
        """Write the initial model and all files, `params.yaml` last.

        Raises:
            ParamsError: training has started in the meantime.
        """
        check_idle()
        if self.initial:
            self.initial.keep()
        for path, text in self.files.items():
            write_text(path.resolve() if path == PARAMS else path, text)  # a link stays a link


def plan(
    text: str,
    name: str | None,
    encoding: str | None,
    initial: InitialModel | None,
    seconds: float | None,
    *,
    force: bool,
) -> New:
    """Inspect a text. Plan parameters for `seconds` of training or, if None, for the text size."""
    check_idle()
    paths = load_paths()
    own = {paths.corpus.parent, *(Path(path.parts[0]) for _, path in paths), CONF}
    source = find_source(text, own)
    name = _checked(name_of(source.stem) if name is None else name)
    bases = {kind: load(kind, kind.root).values for kind in (CORPORA, RECIPES)}
    replaced = [str(path) for kind in bases if os.path.lexists(path := path_of(kind, name))]
    if not force:
        if replaced:
            raise ParamsError(
                f"{', '.join(replaced)} already exists: `charlstm new {name}` uses the existing "
                "files, --force replaces them, and another --name keeps both"
            )
        for kind, values in bases.items():
            check_kept(kind, values)

    report, digest = read(source, encoding)
    about = [f"{ascii(source.shown)[1:-1]}:", *report.lines()]
    if len(source.files) > 1:
        about.append(f"{len(source.files)} files, joined to one text")

    proposal = _proposal(report, bases[RECIPES], initial, seconds)
    recipe = proposal.recipe
    corpus = {
        "download.name": name,
        "download.source": source.address,
        "download.watch": source.address if source.files else NOTHING,
        "download.sha256": digest,
        "download.encoding": report.encoding,
        "download.newlines": "lf" if report.num_crlf else "keep",
        "evaluate.published": None,
        "sample.prompts": AUTO,
        **proposal.corpus,
    }
    values = {**bases[CORPORA], **corpus, **bases[RECIPES], **recipe}
    files = {
        path_of(CORPORA, name): preset_text("\n".join(about), corpus),
        path_of(RECIPES, name): preset_text("\n".join(proposal.reasons), recipe),
        PARAMS: params_with(values)[0],
    }
    reasons = ["proposal:", *proposal.reasons, *(f"replaces {path}" for path in replaced)]
    return New([*about, *reasons], files, initial)


def switch(name: str, force: bool) -> str:
    """Write a corpus and its recipe from `conf/` into `params.yaml`. Return the recipe's name.

    The recipe has the same name as the corpus. Without such a recipe, the default recipe is used.
    """
    check_idle()
    recipe = name if name in names(RECIPES) else RECIPES.root
    values = dict[str, object]()
    for kind, preset in ((CORPORA, name), (RECIPES, recipe)):
        values |= load(kind, preset).values
        if not force:
            check_kept(kind, values)
    write_text(PARAMS.resolve(), params_with(values)[0])
    return recipe


def _checked(name: str) -> str:
    if name_of(name) != name or name in (CORPORA.root, RECIPES.root):
        raise ParamsError(
            "--name must consist of lowercase letters, digits, - and _, and must not be a name of "
            f"the project itself, got {name!r}"
        )
    return name


def _proposal(
    report: TextReport,
    quick: Mapping[str, object],
    initial: InitialModel | None,
    seconds: float | None,
) -> Proposal:
    shape = initial and initial.trained.model.shape
    text = TextCounts(report.num_chars, list(report.counts.values()))
    if initial and initial.trained.vocab.unit == "byte":
        num_bytes = sum(num * len(character.encode()) for character, num in report.counts.items())
        text = TextCounts(num_bytes, text.counts, "byte")

    if seconds is None:
        proposal = propose(text, quick, training_for(text, shape))
    else:
        training, planned = training_within(
            text,
            seconds,
            lambda training: step_seconds(
                params_with({**quick, **training.recipe()})[1], text.vocab_size
            ),
            shape,
        )
        proposal = propose(text, quick, training)
        speed = f"{1000 * planned / training.num_steps:.0f} ms per step, including validation"
        proposal.reasons.append(
            f"about {planned / 60:.1f} minutes of training at the speed just measured: {speed}"
        )
        if planned < seconds / 2:
            proposal.reasons.append(
                "more time would not help: more epochs or a wider model would make the loss worse"
            )
    if initial:
        return initial.begin(proposal, report.counts)
    if text.num_train < rules.FEW_CHARS:
        proposal.reasons.append(
            "the text is short: it helps more to start from a model that was trained on a longer "
            "text in the same language (--from MODEL)"
        )
    return proposal

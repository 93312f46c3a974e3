"""The model that a training is to begin from: found by what the user named, and kept where DVC knows it.

Its folder is copied to `conf/initial/`, under a name made of its weights' SHA-256. `dvc add` puts it into the cache and
writes a small file beside it, for git. So `dvc push`, `dvc pull` and a fresh clone have it, wherever it came from.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CharlstmError
from charlstm.files.atomic import atomic_folder, sha256
from charlstm.files.pieces import find_all
from charlstm.model.model_folder import load_model
from charlstm.model.shape import CONFIG, WEIGHTS, ModelShape
from charlstm.params import NOTHING
from charlstm.text.vocabulary import VOCAB, Vocab
from pipeline.dvc.paths import EXTENSION, Paths
from pipeline.dvc.record import md5, read_lock
from pipeline.new.proposal import Proposal
from pipeline.stage.presets import CONF, RECIPES, load, names
from pipeline.stage.terminal import reason_of

FOLDER = CONF / "initial"
NAME_LENGTH = 12  # digits of the SHA-256
MIN_KNOWN = 0.5  # of a text; the model of Dickens knows 0.25 of the Russian one, and does harm: docs/benchmarks.md
NUM_PROBES, PROBE_CHARS = 20, 100  # of a text, to see whether it stands in another


class InitialModel(NamedTuple):
    """A trained model to begin from."""

    where: str  # as the user named it
    folder: Path  # its files, maybe a temporary copy
    shape: ModelShape
    vocab: Vocab
    num_parameters: int
    sha256: str  # of its weights

    @property
    def target(self) -> Path:
        """The folder in the project, which `train.initial` names."""
        return FOLDER / self.sha256[:NAME_LENGTH]

    @property
    def record(self) -> Path:
        """The file that DVC writes for it, for git."""
        return self.target.with_suffix(".dvc")

    def begin(self, proposal: Proposal, counts: Mapping[str, int]) -> Proposal:
        """`proposal`, for a text that has each of these characters so often, with this model to begin from."""
        about = f"begins from {self.where} (SHA-256 {self.sha256[:NAME_LENGTH]}, {self.num_parameters:,} parameters)"
        corpus, warnings = {**proposal.corpus, "encode.unit": self.vocab.unit}, list[str]()
        if self.vocab.unit == "byte":
            corpus["encode.min_count"] = 1  # no byte is too rare
        else:
            known = set(self.vocab.characters) & counts.keys()
            about += f", which knows {len(known):,} of the {len(counts):,} characters of this text"
            if sum(counts[one] for one in known) < MIN_KNOWN * sum(counts.values()):
                warnings.append("! it knows less than half of this text: without --from, the loss is lower")
        return proposal._replace(
            recipe={**proposal.recipe, "train.initial": str(self.target)},
            corpus=corpus,
            reasons=[*proposal.reasons, about, *warnings],
        )

    def has_read(self, text: str, paths: Paths) -> bool:
        """Whether this is the model of this checkout, and it was trained on `text`, which is to be held out."""
        own, train = paths.model / WEIGHTS, paths.split / "train.txt"
        if not (own.is_file() and train.is_file()) or sha256(own) != self.sha256:
            return False
        starts = range(0, len(text), len(text) // NUM_PROBES + 1)
        probes = [text[start : start + PROBE_CHARS] for start in starts]
        forms = [{probe.encode(), probe.replace("\n", "\r\n").encode()} for probe in probes]  # its line ends were kept
        num_found = sum(any(next(find_all(train, form), None) is not None for form in both) for both in forms)
        return num_found > len(probes) / 2

    def parent(self, name: str, paths: Paths) -> "InitialModel | None":
        """The model that this one began from, if this is what the recipe `name` has made of the corpus of that name."""
        lock, corpus = read_lock(), paths.corpus.with_name(f"{name}{EXTENSION}")
        if lock is None or name not in names(RECIPES) or str(corpus) not in lock.files("deps", "split"):
            return None
        outputs = lock.files("outs")
        inputs = [pair for stage in ("split", "encode", "train") for pair in lock.files("deps", stage).items()]
        is_of_one_text = all(outputs.get(path, md5) == md5 for path, md5 in inputs)
        is_this = paths.model.is_dir() and outputs.get(str(paths.model)) == md5(paths.model)
        if not (is_of_one_text and is_this and sha256(paths.model / WEIGHTS) == self.sha256):
            return None
        began_from = str(lock.params("train").get("train", {}).get("initial", NOTHING))
        is_planned = load(RECIPES, name).values["train.initial"] == began_from
        is_there = began_from != NOTHING and (Path(began_from) / WEIGHTS).is_file()
        return find_initial(self.where, Path(began_from)) if is_planned and is_there else None

    def keep(self) -> None:
        """Copy it into the project, and let DVC know it.

        Raises:
            CharlstmError: DVC does not take it.
            OSError: it cannot be written.
        """
        is_new = not self.target.exists()
        with atomic_folder(self.target) as temporary:
            for name in (WEIGHTS, CONFIG, VOCAB):
                shutil.copyfile(self.folder / name, temporary / name)
        command = [sys.executable, "-m", "dvc", "add", str(self.target)]  # `--quiet` would hide why it fails
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if (
            done.returncode or "ERROR" in done.stderr
        ):  # where its cache has no room, DVC may write its record all the same
            if is_new:  # git does not ignore it yet
                shutil.rmtree(self.target)
                self.record.unlink(missing_ok=True)
            raise CharlstmError(f"{self.target}: DVC does not take it: {reason_of(done)}")


def find_initial(where: str, folder: Path) -> InitialModel:
    """The model in `folder`, which the user named `where`.

    Raises:
        CharlstmError: it is missing or damaged.
    """
    trained = load_model(folder, "gates")
    model = trained.model
    return InitialModel(where, folder, model.shape, trained.vocab, model.shape.num_parameters, trained.sha256)

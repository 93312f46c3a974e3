"""The model that a training is to begin from: a copy in `conf/initial/`, named by its weights' SHA-256.

`dvc add` writes a small file beside it, for git. So `dvc push`, `dvc pull` and a fresh clone have it.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charlstm.errors import CharlstmError
from charlstm.files.atomic import atomic_folder
from charlstm.model.shape import CONFIG, WEIGHTS
from charlstm.text.vocabulary import VOCAB
from pipeline.new.proposal import Proposal
from pipeline.stage.presets import CONF
from pipeline.stage.terminal import reason_of

if TYPE_CHECKING:  # torch takes a second to import: mistakes are told before
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
        known = set(vocab.characters) & counts.keys() if vocab.unit == "character" else counts.keys()
        reasons = [*proposal.reasons, f"begins from {self.where}, which knows {len(known):,} of these characters"]
        if sum(counts[one] for one in known) < MIN_KNOWN * sum(counts.values()):
            reasons.append("! it knows less than half of this text: without --from, the loss is lower")
        recipe = {**proposal.recipe, "train.initial": str(self.target)}
        return Proposal(recipe, {**proposal.corpus, "encode.unit": vocab.unit}, reasons)

    def keep(self) -> None:
        """Copy it into the project, and let DVC know it; CharlstmError if DVC does not take it."""
        is_new = not self.target.exists()
        with atomic_folder(self.target) as temporary:
            for name in (WEIGHTS, CONFIG, VOCAB):
                shutil.copyfile(self.folder / name, temporary / name)
        command = [sys.executable, "-m", "dvc", "add", str(self.target)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode or "ERROR" in done.stderr:  # where its cache has no room, DVC may exit with 0
            if is_new:  # git does not ignore it yet
                shutil.rmtree(self.target)
                self.target.with_suffix(".dvc").unlink(missing_ok=True)
            raise CharlstmError(f"{self.target}: DVC does not take it: {reason_of(done)}")

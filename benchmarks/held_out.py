"""One text in three parts and one recipe: trained, validated, and scored once on the part that nothing has seen."""

import contextlib
import hashlib
import json
import math
import unicodedata
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.dynamic import Ensemble
from benchmarks.projects import ROOT
from benchmarks.trials import Trial, commit, fresh_processes, model_of
from benchmarks.watch import Watch
from charlstm.evaluation.baselines import measure_baselines
from charlstm.evaluation.protocols import stateful
from charlstm.evaluation.windows import windowed
from charlstm.files.atomic import sha256
from charlstm.files.lock import exclusive
from charlstm.files.pieces import read_pieces
from charlstm.model.model_folder import TrainedModel, load_model, save_model
from charlstm.params import Params
from charlstm.text.corpus import Corpus, read_text
from charlstm.text.soft_text import SoftText, load_soft_text
from charlstm.text.vocabulary import UNSEEN, Ids, Vocab
from charlstm.training.checkpoint import CheckpointFolder
from charlstm.training.train import Data, fit
from pipeline.distillation.write import write_part
from pipeline.dvc.paths import load_deps, load_paths
from pipeline.dvc.unfinished import clear
from pipeline.provenance.provenance import environment
from pipeline.stage.interruption import handle_signals

RECORDS = ROOT / "benchmarks/records/corpora.jsonl"
CHECKPOINTS = ROOT / "build/corpora"  # of unfinished trainings
MODELS = ROOT / "build/corpora-models"  # of what is done, and the texts that they wrote as teachers
SECONDS_BETWEEN_CHECKPOINTS = 60.0
FIRST_SEED = 1
VAL_FRACTION, TEST_FRACTION = 0.1, 0.1


class HeldOut:
    """A text, its parts and a recipe as it is, but for its number of epochs if one is given."""

    def __init__(self, file: Path, recipe: str, epochs: int | None = None, seed: int = FIRST_SEED) -> None:
        self.corpus, self.recipe = file.stem, recipe
        length = () if epochs is None else (f"train.epochs={epochs}",)
        self.trial = Trial((f"recipe={recipe}", *length), seed)
        self._file, self._epochs = file, epochs

    @cached_property
    def text(self) -> str:
        """All of it."""
        return read_text(self._file)

    @cached_property
    def parts(self) -> tuple[str, str, str]:
        """For training, validation and test; characters that training never sees are U+FFFD in the others."""
        found = Corpus(self._file, read_pieces(self._file)).parts(VAL_FRACTION, TEST_FRACTION, None)
        content = self.text.encode()
        train, val, test = (content[part.start : part.end].decode() for part in found.values())
        unseen = dict.fromkeys(map(ord, set(val + test) - set(train)), UNSEEN)
        return train, val.translate(unseen), test.translate(unseen)

    @cached_property
    def vocab(self) -> Vocab:
        """The characters of training, with U+FFFD if the other parts have it."""
        return Vocab.of("".join(self.parts))

    @cached_property
    def encoded(self) -> tuple[Ids, Ids, Ids]:
        """The ids of the parts."""
        train, val, test = self.parts
        return self.vocab.encode(train), self.vocab.encode(val), self.vocab.encode(test)

    def origin(self) -> dict[str, str]:
        """What a record is the record of: the text, all parameters and the code that trains."""
        origin = {
            "corpus": self.corpus,
            "recipe": self.recipe,
            "sha256": hashlib.sha256(self.text.encode()).hexdigest(),
            "fingerprint": self.trial.fingerprint(),
            "code": code_hash(),
        }
        if self.trial.seed != FIRST_SEED:
            origin["seed"] = str(self.trial.seed)
        if self.teachers:
            section = self.params().teachers.model_dump(mode="json")
            origin["teachers"] = _hash([section, [one.origin() for one in self.teachers]])
        return origin

    @cached_property
    def teachers(self) -> "list[HeldOut]":
        """Who write what it learns from, if it is a student: they learn from the same training part, as long."""
        section = self.params().teachers
        return [HeldOut(self._file, name, self._epochs, seed) for name in section.recipes for seed in section.seeds]

    def params(self) -> Params:
        """Those of the recipe, as they are."""
        return self.trial.params()


def code_hash() -> str:
    """A hash of the library's code that decides what training makes and how a text is scored."""
    with contextlib.chdir(ROOT):
        deps = [dep for dep in load_deps(load_paths(Path("dvc.yaml"))) if _is_code(dep)]
        files = [file for dep in deps for file in ([dep] if dep.is_file() else sorted(dep.rglob("*.py")))]
        return hashlib.sha256("".join(f"{file} {sha256(file)}\n" for file in files).encode()).hexdigest()[:16]


def _is_code(dep: Path) -> bool:
    return dep.parts[0] == "charlstm"


def script_of(text: str) -> str:
    """The script of most letters, by the first word of their Unicode names."""
    letters = Counter({one: count for one, count in Counter(text).items() if one.isalpha()})
    words: Counter[str] = Counter()
    for letter, count in letters.items():
        words[unicodedata.name(letter, "UNNAMED").split()[0]] += count
    return words.most_common(1)[0][0].capitalize().replace("Cjk", "Han") if words else "none"


def measure(held_out: HeldOut, console: Console) -> dict[str, Any]:
    """The record of `held_out`: trained and scored now, unless it was before."""
    if (known := _known(held_out.origin())) is not None:
        console.print(f"{held_out.corpus}, {held_out.recipe}: recorded, not scored again")
        return known
    return _fit(held_out, console)


def trained(held_out: HeldOut, console: Console) -> TrainedModel:
    """Its model: trained and scored now, unless it is still here."""
    if not _model_folder(held_out).exists():
        _fit(held_out, console)
    return load_model(_model_folder(held_out), "fused")


def _model_folder(held_out: HeldOut) -> Path:
    return MODELS / _hash(held_out.origin())


def _hash(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _known(origin: dict[str, str]) -> dict[str, Any] | None:
    lines = RECORDS.read_text().splitlines() if RECORDS.exists() else []
    same = [one for one in map(json.loads, lines) if origin.items() - {("corpus", origin["corpus"])} <= one.items()]
    return same[-1] if same else None


def append(file: Path, record: dict[str, Any]) -> None:
    """One more line."""
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(record, ensure_ascii=False) + "\n")


def _fit(held_out: HeldOut, console: Console) -> dict[str, Any]:
    """Train, score the test part, and keep both. Of several records of one training the last counts."""
    params, (train_ids, val_ids, test_ids) = held_out.params(), held_out.encoded
    teachers = [trained(one, console) for one in held_out.teachers]
    scores = [measure(one, console)["test_nats_per_char"] for one in held_out.teachers]
    data = Data(train_ids, val_ids, held_out.vocab, soft_text=_soft_text(held_out, teachers))
    folder = CHECKPOINTS / _hash(held_out.origin())
    with exclusive(folder, "this training"), handle_signals() as interruption:
        processes = fresh_processes(params)
        checkpoints = CheckpointFolder(folder, SECONDS_BETWEEN_CHECKPOINTS)
        watch = Watch(console, f"{held_out.corpus}, {held_out.recipe}, seed {held_out.trial.seed}")
        result = fit(data, params.model, params.train, processes, [watch], checkpoints, interruption.should_stop)
        model = model_of(result.shape, result.weights, params)
        test_nats_per_char = stateful(model, test_ids).nats_per_char
        record = held_out.origin() | {
            "commit": commit(),
            "script": script_of(held_out.text),
            "num_bytes": len(held_out.text.encode()),
            "num_chars": len(held_out.text),
            "alphabet": len(held_out.vocab),
            "epochs": len(result.epochs),
            "num_parameters": result.num_parameters,
            "train_seconds": round(result.train_seconds, 1),
            "val_by_epoch": [round(row.val_nats_per_char, 6) for row in result.epochs],
            "val_windowed_100": round(windowed(model, val_ids, 100).nats_per_char, 6),
            "val_stateful": round(stateful(model, val_ids).nats_per_char, 6),
            "test_chars": len(test_ids),
            "test_nats_per_char": round(test_nats_per_char, 6),
            "test_bits_per_char": round(test_nats_per_char / math.log(2), 6),
            "test_baselines": _baselines(held_out),
            "torch": torch.__version__,
            "hardware": processes.describe_device(),
            "processor": environment()["hardware.processor"],
        }
        if teachers:
            together = stateful(Ensemble([one.model for one in teachers]), test_ids).nats_per_char
            record["teachers_test_nats_per_char"] = scores
            record["ensemble_test_nats_per_char"] = round(together, 6)
        append(RECORDS, record)
        save_model(_model_folder(held_out), result.weights, result.shape, held_out.vocab)
        clear(folder)
    return record


def _soft_text(held_out: HeldOut, teachers: list[TrainedModel]) -> SoftText | None:
    """What they write about the training part, as stage `text` does; what is here already is not written again."""
    if not teachers:
        return None
    params, vocab = held_out.params().teachers, held_out.vocab
    facts = [params.model_dump(mode="json"), [one.sha256 for one in teachers]]
    folder = MODELS / f"text-{_hash(facts)}"
    for part in params.parts:
        if not (folder / str(part)).exists():
            write_part(folder / str(part), teachers, held_out.encoded[0], vocab, params, part)
    return load_soft_text(folder, len(vocab), params.parts)


def _baselines(held_out: HeldOut) -> dict[str, float]:
    """On the test part, by what the model has seen: training alone."""
    train, _, test = held_out.parts
    return measure_baselines(train, test).bits_per_char

"""One text in three parts and one recipe: trained, validated, and scored once on the part that nothing has seen."""

import contextlib
import hashlib
import json
import math
import statistics
import time
import unicodedata
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.projects import ROOT
from benchmarks.training import take_steps
from benchmarks.trials import Trial, commit, fresh_processes, model_of
from benchmarks.watch import Watch
from charlstm.evaluation.baselines import measure_baselines
from charlstm.evaluation.protocols import stateful, windowed
from charlstm.params import Params
from charlstm.storage.files import sha256
from charlstm.storage.lock import exclusive
from charlstm.storage.pieces import read_pieces
from charlstm.text.corpus import Corpus, read_text
from charlstm.text.vocabulary import UNSEEN, Ids, Vocab
from charlstm.training.checkpoint import CheckpointFolder
from charlstm.training.learner import Learner
from charlstm.training.train import Data, fit
from pipeline.common.environment import environment
from pipeline.common.interruption import handle_signals
from pipeline.common.paths import load_deps, load_paths
from pipeline.common.unfinished import clear

RECORDS = ROOT / "benchmarks/records/corpora.jsonl"
SPEEDS = ROOT / "benchmarks/records/corpora_speed.jsonl"
CHECKPOINTS = ROOT / "build/corpora"
SECONDS_BETWEEN_CHECKPOINTS = 60.0
VAL_FRACTION, TEST_FRACTION = 0.1, 0.1
NUM_WARM_UP_STEPS, NUM_TIMED_STEPS = 10, 50


class HeldOut:
    """A text, its parts and a recipe as it is."""

    def __init__(self, file: Path, recipe: str) -> None:
        self.corpus, self.recipe = file.stem, recipe
        self.trial = Trial((f"recipe={recipe}",))
        self._file = file

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
        return {
            "corpus": self.corpus,
            "recipe": self.recipe,
            "sha256": hashlib.sha256(self.text.encode()).hexdigest(),
            "fingerprint": self.trial.fingerprint(),
            "code": code_hash(),
        }

    def params(self) -> Params:
        """Those of the recipe, as they are."""
        return self.trial.params()


def code_hash() -> str:
    """A hash of the library's code that decides what training makes and how a text is scored."""
    with contextlib.chdir(ROOT):
        deps = [dep for dep in load_deps(Path("dvc.yaml"), "train", load_paths(Path("dvc.yaml"))) if _is_code(dep)]
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
    origin = held_out.origin()
    if (known := _known(origin)) is not None:
        console.print(f"{held_out.corpus}, {held_out.recipe}: recorded, not scored again")
        return known
    record = origin | _fit(held_out, hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:16], console)
    append(RECORDS, record)
    return record


def _known(origin: dict[str, str]) -> dict[str, Any] | None:
    lines = RECORDS.read_text().splitlines() if RECORDS.exists() else []
    same = [one for one in map(json.loads, lines) if origin.items() - {("corpus", origin["corpus"])} <= one.items()]
    return same[-1] if same else None


def append(file: Path, record: dict[str, Any]) -> None:
    """One more line."""
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(record, ensure_ascii=False) + "\n")


def _fit(held_out: HeldOut, key: str, console: Console) -> dict[str, Any]:
    params, (train_ids, val_ids, test_ids) = held_out.params(), held_out.encoded
    folder = CHECKPOINTS / key
    with exclusive(folder, "this training"), handle_signals() as interruption:
        processes = fresh_processes(params)
        checkpoints = CheckpointFolder(folder, SECONDS_BETWEEN_CHECKPOINTS)
        watch = Watch(console, f"{held_out.corpus}, {held_out.recipe}")
        data = Data(train_ids, val_ids, held_out.vocab)
        result = fit(data, params.model, params.train, processes, [watch], checkpoints, interruption.should_stop)
        model = model_of(result.shape, result.weights, params)
        test_nats_per_char = stateful(model, test_ids).nats_per_char
        record = {
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
        clear(folder)
    return record


def _baselines(held_out: HeldOut) -> dict[str, float]:
    """On the test part, by what the model has seen: training alone."""
    train, _, test = held_out.parts
    return measure_baselines(train, test).bits_per_char


def measure_speed(held_out: HeldOut, console: Console) -> None:
    """Characters a second of single training steps, and keep it."""
    params, (train_ids, _, _) = held_out.params(), held_out.encoded
    processes = fresh_processes(params)
    step = take_steps(Learner(train_ids, len(held_out.vocab), params.model, params.train, processes))
    seconds = []
    for _ in range(NUM_WARM_UP_STEPS + NUM_TIMED_STEPS):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    chars_per_second = (
        params.train.batch_size * params.train.context_len / statistics.median(seconds[NUM_WARM_UP_STEPS:])
    )
    console.print(f"{held_out.corpus}, {held_out.recipe}: {chars_per_second:,.0f} characters a second")
    append(
        SPEEDS,
        held_out.origin()
        | {
            "commit": commit(),
            "chars_per_second": round(chars_per_second),
            "hardware": processes.describe_device(),
            "processor": environment()["hardware.processor"],
        },
    )

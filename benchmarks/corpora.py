"""Recipes as they are on real texts, beside n-grams and xz: do the choices of tiny Shakespeare hold elsewhere?

Usage: python -m benchmarks.corpora TEXT... [--recipe quick] [--recipe best] [-S NAME=VALUE] [--seeds N] [--epochs N]
           [--speed]
       python -m benchmarks.corpora --show

A TEXT is a UTF-8 file; its name is that of the corpus. Its first 80 % train, the next 10 % validate, the last 10 %
test. Nothing is chosen by the test part. A model reads it once, at the end, by the protocol `stateful`. The score is
kept in `benchmarks/records/corpora.jsonl`: the same text, recipe and code are not scored again. A killed training
resumes where it was. `benchmarks/records/corpora.yaml` says where the texts come from. `--speed` measures how fast
training steps are, which means something only on a quiet machine. `--show` prints the table of what is recorded.
"""

import contextlib
import hashlib
import json
import math
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.harness import console, median_seconds, new_parser, table
from benchmarks.projects import ROOT
from benchmarks.trials import Record, Trial, append, commit, fresh_processes, last_record, short_hash, train
from charlstm.corpus.parts import Corpus, read_text
from charlstm.evaluation.baselines import measure_baselines
from charlstm.evaluation.difference import mean_and_deviation
from charlstm.evaluation.protocols import stateful
from charlstm.files.atomic import sha256, write_text
from charlstm.files.pieces import read_pieces
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import WEIGHTS
from charlstm.model.windows import windowed
from charlstm.params import Params, load_params
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import UNSEEN, Vocab
from charlstm.training.initial import InitialWeights, load_initial
from charlstm.training.learner import Learner
from charlstm.training.needs import shape_of
from charlstm.training.train import Data
from pipeline.dvc.paths import inputs_of
from pipeline.new.timing import take_steps
from pipeline.provenance.provenance import environment
from pipeline.stage.project import PARAMS
from pipeline.stage.stage import guarded

RECORDS, SPEEDS = (ROOT / f"benchmarks/records/{name}.jsonl" for name in ("corpora", "corpora_speed"))
TEXTS = ROOT / "build/corpora-texts"  # beginnings of texts
CHECKPOINTS = ROOT / "build/corpora"  # of unfinished trainings
MODELS = ROOT / "build/corpora-models"  # of what is done
VAL_FRACTION, TEST_FRACTION = 0.1, 0.1
FIRST_SEED = 1
NUM_WARM_UP_STEPS, NUM_TIMED_STEPS = 10, 50
COLUMNS = (
    "text", "script", "MB", "characters", "alphabet", "recipe", "parameters", "epochs", "seconds",
    "characters a second", "test, nats/char", "test, bits/char", "best n-gram", "xz",
)  # fmt: skip


class HeldOut:
    """A text in three parts and a recipe, trained, validated, and scored once on the part that nothing has seen."""

    def __init__(
        self,
        file: Path,
        recipe: str,
        epochs: int | None = None,
        seed: int = FIRST_SEED,
        *,
        changes: Sequence[str] = (),
        min_count: int = 1,
        initial: Path | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        """`changes` to the recipe are as `dvc exp run -S` has them. `min_count` is `encode.min_count`. `initial` is
        the model folder to begin from. The record also has `facts`."""
        self.corpus, self.recipe = file.stem, recipe
        length = () if epochs is None else (f"train.epochs={epochs}",)
        self.trial = Trial((f"recipe={recipe}", *changes, *length), seed)
        self._file, self._initial = file, initial
        self._min_count, self._facts = min_count, facts or {}

    @cached_property
    def text(self) -> str:
        """All of it."""
        return read_text(self._file)

    @cached_property
    def parts(self) -> tuple[str, str, str]:
        """For training, validation and test; characters that training does not have, or too rarely, are U+FFFD."""
        parts = Corpus(self._file, read_pieces(self._file)).parts(VAL_FRACTION, TEST_FRACTION, None)
        content = self.text.encode()
        train, val, test = (content[part.start : part.end].decode() for part in parts.values())
        counts = Counter(train)
        rare = {character for character in set(self.text) if counts[character] < max(1, self._min_count)}
        unseen = dict.fromkeys(map(ord, rare), UNSEEN)
        return train.translate(unseen), val.translate(unseen), test.translate(unseen)

    @cached_property
    def vocab(self) -> Vocab:
        """The characters of training, with U+FFFD if the other parts have it."""
        return Vocab.of("".join(self.parts))

    @cached_property
    def encoded(self) -> tuple[EncodedText, EncodedText, EncodedText]:
        """The parts as ids."""
        train, val, test = (EncodedText(self.vocab.encode(part)) for part in self.parts)
        return train, val, test

    def origin(self) -> Record:
        """What a record is the record of: the text, all parameters and the code that trains."""
        origin: Record = {
            **self._facts,
            "corpus": self.corpus,
            "recipe": self.recipe,
            "sha256": hashlib.sha256(self.text.encode()).hexdigest(),
            "fingerprint": self.trial.fingerprint(),
            "code": code_hash(),
        }
        if self.trial.seed != FIRST_SEED:
            origin["seed"] = str(self.trial.seed)
        if self._min_count > 1:
            origin["min_count"] = str(self._min_count)
        if self._initial:
            origin["initial"] = sha256(self._initial / WEIGHTS)
        return origin

    def params(self) -> Params:
        """Those of the recipe, but for its number of epochs if one is given."""
        return self.trial.params()

    def initial(self) -> InitialWeights | None:
        """The weights to begin from; None to begin from nothing."""
        shape = shape_of(self.params().model, len(self.vocab))
        return load_initial(self._initial, self.vocab, shape) if self._initial else None

    def model_folder(self) -> Path:
        """Where its model is kept on this machine."""
        return MODELS / short_hash(self.origin())


def code_hash() -> str:
    """A hash of the library's code that decides what training makes and how a text is scored."""
    with contextlib.chdir(ROOT):
        params = load_params(PARAMS).model_dump()
        code = [dep for dep in inputs_of("train", params)[0] if dep.parts[0] == "charlstm"]
        files = [file for dep in code for file in ([dep] if dep.is_file() else sorted(dep.rglob("*.py")))]
        return hashlib.sha256("".join(f"{file} {sha256(file)}\n" for file in files).encode()).hexdigest()[:16]


def script_of(text: str) -> str:
    """The script of most letters, by the first word of their Unicode names."""
    words: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if character.isalpha():
            words[unicodedata.name(character, "UNNAMED").split()[0]] += count
    return words.most_common(1)[0][0].capitalize().replace("Cjk", "Han") if words else "none"


def measure(held_out: HeldOut, file: Path | None = None) -> Record:
    """The record of `held_out`: trained and scored now, unless it was before, by whatever name of the text.

    It is kept in `file`, by default with those of whole texts.
    """
    facts = {name: value for name, value in held_out.origin().items() if name != "corpus"}
    if (record := last_record(file or RECORDS, facts)) is not None:
        console.print(f"{held_out.corpus}, {held_out.recipe}: recorded, not scored again")
        return record
    return _fit(held_out, file or RECORDS)


def _fit(held_out: HeldOut, file: Path) -> Record:
    train_part, val, test = held_out.encoded
    train_text, _, test_text = held_out.parts
    data = Data(train_part, val, held_out.vocab, held_out.initial())

    def score(model: CharLSTM) -> Record:
        test_nats_per_char = stateful(model, test).nats_per_char
        return held_out.origin() | {
            "commit": commit(),
            "script": script_of(held_out.text),
            "num_bytes": len(held_out.text.encode()),
            "num_chars": len(held_out.text),
            "alphabet": len(held_out.vocab),
            "val_windowed_100": round(windowed(model, val, 100).nats_per_char, 6),
            "val_stateful": round(stateful(model, val).nats_per_char, 6),
            "test_chars": len(test),
            "test_nats_per_char": round(test_nats_per_char, 6),
            "test_bits_per_char": round(test_nats_per_char / math.log(2), 6),
            "test_baselines": measure_baselines(train_text, test_text).bits_per_char,
            "processor": environment()["hardware.processor"],
        }

    console.print(f"{held_out.corpus}, {held_out.recipe}, seed {held_out.trial.seed}:")
    checkpoints = CHECKPOINTS / short_hash(held_out.origin())
    return train(held_out.params(), data, checkpoints, held_out.model_folder(), file, score)


def measure_speed(held_out: HeldOut) -> None:
    """Characters a second of single training steps, and keep it."""
    params, processes = held_out.params(), fresh_processes(held_out.params())
    step = take_steps(Learner(held_out.encoded[0], len(held_out.vocab), params.model, params.train, processes))
    seconds = median_seconds(step, NUM_TIMED_STEPS, NUM_WARM_UP_STEPS)
    chars_per_second = round(params.train.batch_size * params.train.context_len / seconds)
    machine = {"hardware": processes.describe_device(), "processor": environment()["hardware.processor"]}
    append(SPEEDS, held_out.origin() | {"commit": commit(), "chars_per_second": chars_per_second} | machine)


def newest(file: Path) -> pd.DataFrame:
    """The last record of each text, recipe (with its changes) and seed."""
    columns = ["corpus", "recipe", "changes", "seed"]
    records = pd.read_json(file, lines=True) if file.exists() and file.stat().st_size > 0 else pd.DataFrame()
    records = records.reindex(columns=records.columns.union(columns)).drop_duplicates(columns, keep="last")
    return records.assign(changes=records["changes"].astype(object).fillna(""))


def table_of_texts() -> str:
    """All records as Markdown, by the size of the text: means over seeds, medians of their seconds."""
    records, speeds = newest(RECORDS), newest(SPEEDS)
    if len(records) == 0:
        return "nothing is recorded yet"
    speed_of = {(row["corpus"], named(row)): f"{row['chars_per_second']:,.0f}" for _, row in speeds.iterrows()}
    rows = []
    for _, group in records.groupby(["num_bytes", "corpus", "recipe", "changes"]):
        record = group.iloc[-1]
        baselines = record["test_baselines"]
        best = min((name for name in baselines if name.endswith("-gram")), key=lambda name: baselines[name])
        rows.append((
            record["corpus"], record["script"], f"{record['num_bytes'] / 1e6:.1f}", f"{record['num_chars']:,}",
            f"{record['alphabet']:,}", named(record), f"{record['num_parameters']:,}", record["epochs"],
            f"{group['train_seconds'].median():,.0f}", speed_of.get((record["corpus"], named(record)), ""),
            over_seeds(list(group["test_nats_per_char"])), f"{group['test_bits_per_char'].mean():.4f}",
            f"{baselines[best]:.4f} ({best})", f"{baselines['xz']:.4f}",
        ))  # fmt: skip
    return table(COLUMNS, rows)


def named(record: "pd.Series[Any]") -> str:
    """The recipe of a record, with its changes."""
    return f"`{record['recipe']}` {record['changes']}".strip()


def over_seeds(losses: Sequence[float]) -> str:
    """Their mean and deviation, and how many they are."""
    return mean_and_deviation(losses) + (f" ({len(losses)} seeds)" if len(losses) > 1 else "")


def first_of(file: Path, num_chars: int) -> Path:
    """A file with the first characters of a text."""
    path = TEXTS / f"{file.stem}-{num_chars}.txt"
    write_text(path, read_text(file)[:num_chars])
    return path


def changes_of(values: Mapping[str, object]) -> list[str]:
    """As `dvc exp run -S` has them."""
    return [f"{name}={json.dumps(value)}" for name, value in values.items()]


def main() -> int:
    """Measure what is not recorded yet, and print a Markdown table of all records."""
    parser = new_parser(__doc__)
    parser.add_argument("texts", nargs="*", metavar="TEXT", type=Path, help="UTF-8 files")
    parser.add_argument("--recipe", action="append", help="of conf/recipe/; may be repeated; quick if none is given")
    parser.add_argument(
        "-S", dest="changes", metavar="NAME=VALUE", action="append", default=[], help="change a parameter"
    )
    parser.add_argument("--seeds", type=int, default=1, help="number of trainings; by default 1")
    parser.add_argument("--epochs", type=int, help="instead of those of the recipe")
    parser.add_argument("--speed", action="store_true", help="measure only how fast training steps are")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    texts = [] if arguments.show else arguments.texts
    for text in texts:
        for recipe in arguments.recipe or ["quick"]:
            for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
                facts = {"changes": " ".join(arguments.changes)} if arguments.changes else {}
                held_out = HeldOut(text, recipe, arguments.epochs, seed, changes=arguments.changes, facts=facts)
                (measure_speed if arguments.speed else measure)(held_out)
    console.print(table_of_texts())
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))

"""What `charlstm new TEXT --minutes N` makes of real texts, beside n-grams.

Usage: python -m benchmarks.budgets TEXT... --minutes N [--first CHARS] [--from MODEL] [--seeds N] [--dynamic] [--show]

The parts of a text, the test part that is scored once, and the baselines are those of `benchmarks.corpora`. What is
proposed depends on how fast this machine is: of all timings, the fastest counts, as on a quiet machine (`--plan` only
makes one more, and says what is proposed). So the time of a record is the one that was planned, and the training itself
may run beside other work. A plan is kept, so a killed training resumes. Records are in
`benchmarks/records/budgets.jsonl`.

With `--dynamic`, the models go on learning while they read the test part, as compressors do (`benchmarks.dynamic`). The
rate is chosen by the first characters of the validation part.
"""

import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.corpora import FIRST_SEED, HeldOut, changes_of, first_of, over_seeds
from benchmarks.corpora import measure as measure_held_out
from benchmarks.dynamic import best_rule, dynamic
from benchmarks.harness import console, new_parser, table
from benchmarks.projects import ROOT, compose
from benchmarks.trials import Record, append, short_hash, trainable
from charlstm.corpus.parts import read_text
from charlstm.files.atomic import sha256, write_text
from charlstm.files.documents import read_json
from charlstm.model.model_folder import load_model
from charlstm.model.shape import WEIGHTS
from charlstm.params import Params
from pipeline.new.initial import NAME_LENGTH
from pipeline.new.proposal import TRAIN_FRACTION, Text, Training, propose, training_within
from pipeline.new.timing import step_seconds
from pipeline.stage.presets import RECIPES, load
from pipeline.stage.stage import guarded

RECORDS = ROOT / "benchmarks/records/budgets.jsonl"
PLANS, TIMINGS = ROOT / "build/budgets", ROOT / "build/budgets/timings.json"
COLUMNS = (
    "text", "characters", "alphabet", "minutes", "begins from", "parameters", "epochs", "teachers", "seconds planned",
    "test, nats/char", "test, bits/char", "best n-gram", "dynamic", "commit",
)  # fmt: skip
CHOSEN_BY = 20_000  # characters of the validation part that choose a rate
OWN_TRAIN_FRACTION = 0.8  # of the parts here; `charlstm new` has no test part


def fastest(params: Params, vocab_size: int) -> float:
    """The seconds of a step on this machine when it was quietest: the best of all timings."""
    timings = dict(read_json(TIMINGS)) if TIMINGS.exists() else {}
    # Small alphabets cost nearly nothing, so texts share their timings.
    key, now = short_hash([params.model_dump(mode="json"), vocab_size.bit_length()]), step_seconds(params, vocab_size)
    timings[key] = min(now, timings.get(key, now))
    write_text(TIMINGS, json.dumps(timings, indent=1))
    return float(timings[key])


def plan_path(file: Path, minutes: float, initial: Path | None) -> Path:
    """Where a proposal is kept once it is trained."""
    key = [sha256(file), minutes, sha256(initial / WEIGHTS) if initial else None]
    return PLANS / f"{short_hash(key)}.json"


def planned(file: Path, minutes: float, initial: Path | None) -> dict[str, Any]:
    """The proposal for a text and a time."""
    text = read_text(file)
    shape = load_model(initial, "gates").model.shape if initial else None
    quick = load(RECIPES, RECIPES.root, ROOT).values
    facts = Text(int(len(text) * OWN_TRAIN_FRACTION / TRAIN_FRACTION), list(Counter(text).values()))

    def step(training: Training) -> float:
        return fastest(compose(ROOT, changes_of(training.recipe())), facts.vocab_size)

    training, seconds = training_within(facts, 60 * minutes, step, shape)
    proposal = propose(facts, quick, training)
    return {
        "recipe": proposal.recipe, "corpus": proposal.corpus, "reasons": proposal.reasons,
        "seconds": round(seconds, 1), "seconds_per_step": round(seconds / training.num_steps, 5),
    }  # fmt: skip


def held_out(file: Path, minutes: float, initial: Path | None, seed: int) -> HeldOut:
    """A text with the recipe that is proposed for it and a time."""
    path = plan_path(file, minutes, initial)
    proposal = read_json(path) if path.exists() else planned(file, minutes, initial)
    write_text(path, json.dumps(proposal, indent=1))
    return HeldOut(
        file,
        RECIPES.root,
        seed=seed,
        changes=changes_of(proposal["recipe"]),
        min_count=proposal["corpus"].get("encode.min_count", 1),
        initial=initial,
        facts={"minutes": minutes} | {name: proposal[name] for name in ("seconds", "seconds_per_step", "reasons")},
    )


def score(held_out: HeldOut) -> Record:
    """Its record: trained and scored now, unless it was before."""
    return measure_held_out(held_out, RECORDS)


def follow(held_out: HeldOut) -> None:
    """Score the test part again, by the model of a record while it learns from what it has read, and keep that."""
    record = score(held_out)
    if "dynamic" in record:
        return
    model, (train, val, test) = trainable(held_out.model_folder(), held_out.params()), held_out.encoded
    rule = best_rule(model, val.first(CHOSEN_BY), train)
    bits = dynamic(model, test, train, rule).nats_per_char / math.log(2)
    append(RECORDS, record | {"dynamic": {"bits_per_char": round(bits, 6), "learning_rate": rule.learning_rate}})


def table_of_budgets() -> str:
    """All records as Markdown, by the text and its time."""
    if not RECORDS.exists():
        return "nothing is recorded yet"
    records, rows = pd.read_json(RECORDS, lines=True).dropna(subset=["minutes"]), []
    records = records.reindex(columns=records.columns.union(["initial", "seed", "dynamic"]))
    records["initial"] = [name[:NAME_LENGTH] if isinstance(name, str) else "nothing" for name in records["initial"]]
    records["dynamic"] = [score["bits_per_char"] if isinstance(score, dict) else None for score in records["dynamic"]]
    named = ["num_bytes", "corpus", "minutes", "initial"]
    for (_, corpus, minutes, initial), group in records.drop_duplicates([*named, "seed"], keep="last").groupby(named):
        record, losses = group.iloc[-1], group["test_nats_per_char"]
        baselines, bits = record["test_baselines"], losses.mean() / math.log(2)
        best = min((name for name in baselines if name.endswith("-gram")), key=lambda name: baselines[name])
        followed = "" if group["dynamic"].isna().any() else f"{group['dynamic'].mean():.4f}"
        taught = record.get("teachers_test_nats_per_char")  # of former plans
        rows.append((
            corpus, f"{record['num_chars']:,}", f"{record['alphabet']:,}", f"{minutes:g}", initial,
            f"{record['num_parameters']:,}", record["epochs"], len(taught) if isinstance(taught, list) else 0,
            f"{record['seconds']:,.0f}", over_seeds(list(losses)), f"{bits:.4f}",
            f"{baselines[best]:.4f} ({best})", followed, record["commit"],
        ))  # fmt: skip
    return table(COLUMNS, rows)


def main() -> int:
    """Train and score what is not recorded yet, and print a table of all records."""
    parser = new_parser(__doc__)
    parser.add_argument("texts", nargs="*", metavar="TEXT", type=Path, help="UTF-8 files")
    parser.add_argument("--minutes", type=float, default=3.0, help="by default 3")
    parser.add_argument("--first", type=int, metavar="CHARS", help="take only so many characters of each text")
    parser.add_argument("--from", dest="initial", type=Path, metavar="MODEL", help="a model folder to begin from")
    parser.add_argument("--seeds", type=int, default=1, help="number of trainings; by default 1")
    parser.add_argument("--dynamic", action="store_true", help="also score models that learn as they read")
    parser.add_argument("--plan", action="store_true", help="only say what is proposed")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    for text in [] if arguments.show else arguments.texts:
        file = first_of(text, arguments.first) if arguments.first else text
        if arguments.plan:
            proposal = planned(file, arguments.minutes, arguments.initial)
            console.print(f"{file.stem}, {arguments.minutes:g} minutes: " + "; ".join(proposal["reasons"]))
            continue
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
            (follow if arguments.dynamic else score)(held_out(file, arguments.minutes, arguments.initial, seed))
    console.print(table_of_budgets())
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))

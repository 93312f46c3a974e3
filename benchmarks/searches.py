"""Is a search worth its time? `charlstm new TEXT --minutes N --run` and `charlstm tune --minutes N` on real texts.

Usage: python -m benchmarks.searches TEXT... --minutes N [--search MINUTES] [--first CHARS] [--from MODEL] [--show]

The commands are those that a user types, in a fresh clone of this repository in a temporary folder. The user has the
first 90 % of a text, of which `charlstm new` takes a tenth for validation. The search chooses by that part. The last
10 % are scored once: by the model that was proposed (trial 0) and by the best trial. The record also says how long
training was to take and how long it took, which means something only on a machine that does nothing else.

Records are in `benchmarks/records/searches.jsonl`. They hold for the code and the machine that made them.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks.corpora import TEST_FRACTION, code_hash, first_of
from benchmarks.harness import console, new_parser, table
from benchmarks.projects import PYTHON, ROOT
from benchmarks.trials import Record, append, commit
from charlstm.errors import TrainingError
from charlstm.evaluation.blocks import blocks_of
from charlstm.evaluation.difference import Trained, compare
from charlstm.evaluation.protocols import stateful_nats
from charlstm.files.atomic import sha256
from charlstm.model.model_folder import load_model
from charlstm.model.shape import WEIGHTS
from charlstm.text.corpus import read_text
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import UNSEEN
from pipeline.dvc.unfinished import SEARCHES
from pipeline.new.budget import clock
from pipeline.provenance.provenance import environment
from pipeline.stage.stage import guarded
from pipeline.tune.study import DONE, JOURNAL, MODEL, PRUNED, Study

RECORDS = ROOT / "benchmarks/records/searches.jsonl"
COMMAND = [*PYTHON, "pipeline.cli"]
CLOCK = r"(\d+):(\d\d)"
PLANNED = (rf"{CLOCK} together", rf"training takes {CLOCK}")  # with teachers; without
TRAINING_BEGINS, TRAINING_ENDS = " parameters, ", "Running stage 'evaluate'"
COLUMNS = (
    "text", "minutes", "planned", "trained in", "search, minutes", "trials beside trial 0", "stopped early",
    "validation, trial 0", "best", "test, trial 0", "best", "lower by",
)  # fmt: skip


def measure(file: Path, minutes: float, search_minutes: float, initial: Path | None) -> Record:
    """Propose, train, search, score; the record, which is kept."""
    text = read_text(file)
    num_own = int(len(text) * (1 - TEST_FRACTION))
    with tempfile.TemporaryDirectory(prefix="charlstm-searches-") as name:
        project, own = Path(name) / "project", Path(name) / file.name
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
        own.write_text(text[:num_own], encoding="utf-8", newline="")
        begins = ["--from", str(initial.resolve())] if initial else []
        new = _typed(project, "new", str(own), "--minutes", f"{minutes:g}", *begins, "--run")
        planned = next(found for pattern in PLANNED for _, line in new if (found := re.search(pattern, line)))
        began, *_ = (seconds for seconds, line in new if TRAINING_BEGINS in line)
        ended, *_ = (seconds for seconds, line in new if TRAINING_ENDS in line)
        tune = _typed(project, "tune", "--minutes", f"{search_minutes:g}")
        (folder,) = (journal.parent for journal in (project / SEARCHES).glob(f"*/{JOURNAL}"))
        study = Study(folder)
        trials = study.trials()
        best = study.done()[0]
        scored = [_scored(folder / str(number) / MODEL, text[num_own:]) for number in (0, best.number)]
        difference = compare(scored)[0] if best.number else None
        record = {
            "corpus": file.stem, "sha256": sha256(file), "minutes": minutes, "search_minutes": search_minutes,
            "code": code_hash(), "commit": commit(), "initial": sha256(initial / WEIGHTS) if initial else None,
            "planned_seconds": 60 * int(planned[1]) + int(planned[2]), "train_seconds": round(ended - began, 1),
            "whole_seconds": round(new[-1][0], 1), "search_seconds": round(tune[-1][0], 1),
            "states": [one.state for one in trials.values()], "losses": [one.loss for one in trials.values()],
            "values": [dict(one.values) for one in trials.values()], "best": best.number,
            "test_nats_per_char": [round(one.loss, 6) for one in scored],
            "interval": difference.by_text if difference else None,
            "processor": environment()["hardware.processor"],
        }  # fmt: skip
    append(RECORDS, record)
    for _, line in tune:
        console.print(line)
    return record


def _typed(project: Path, *arguments: str) -> list[tuple[float, str]]:
    """What `charlstm` says, line by line, each with the seconds since its start."""
    variables = {**os.environ, "PYTHONPATH": str(project), "DVC_NO_ANALYTICS": "true"}
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=project, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    started, output = time.perf_counter(), process.stdout or ()
    said = [(time.perf_counter() - started, line.rstrip()) for line in output]
    if process.wait():
        raise TrainingError("\n".join([f"charlstm {' '.join(arguments)} failed:", *(line for _, line in said[-20:])]))
    return said


def _scored(folder: Path, text: str) -> Trained:
    """The loss of a text, block by block. Characters that the model does not know are U+FFFD, or left out."""
    trained = load_model(folder, "fused")
    known = set(trained.vocab.characters)
    strange = {ord(character): UNSEEN if UNSEEN in known else None for character in set(text) - known}
    encoded = EncodedText(trained.vocab.encode(text.translate(strange)))
    blocks = blocks_of(stateful_nats(trained.model, encoded), encoded)
    return Trained(folder.parent.name, [blocks.nats_per_char], [blocks])


def table_of_searches() -> str:
    """All records as Markdown."""
    if not RECORDS.exists():
        return "nothing is recorded yet"
    rows = []
    for _, record in pd.read_json(RECORDS, lines=True).iterrows():
        states, losses, best = record["states"], record["losses"], record["best"]
        before, after = record["test_nats_per_char"]
        interval = "" if pd.isna(record["interval"]) else f" ± {record['interval']:.4f}"
        rows.append((
            record["corpus"], f"{record['minutes']:g}", clock(record["planned_seconds"]),
            clock(record["train_seconds"]), f"{record['search_minutes']:g}", states.count(DONE) - 1,
            states.count(PRUNED), f"{losses[0]:.4f}", f"{losses[best]:.4f}", f"{before:.4f}", f"{after:.4f}",
            f"{before - after:.4f}{interval}" if best else "the same",
        ))  # fmt: skip
    return table(COLUMNS, rows)


def main() -> int:
    """Measure, and print a table of all records."""
    parser = new_parser(__doc__)
    parser.add_argument("texts", nargs="*", metavar="TEXT", type=Path, help="UTF-8 files")
    parser.add_argument("--minutes", type=float, default=3.0, help="for training; by default 3")
    parser.add_argument("--search", type=float, metavar="MINUTES", help="for the search; by default as many again")
    parser.add_argument("--first", type=int, metavar="CHARS", help="take only so many characters of each text")
    parser.add_argument("--from", dest="initial", type=Path, metavar="MODEL", help="a model folder to begin from")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    for text in [] if arguments.show else arguments.texts:
        file = first_of(text, arguments.first) if arguments.first else text
        measure(file, arguments.minutes, arguments.search or arguments.minutes, arguments.initial)
    console.print(table_of_searches())
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))

"""The recipe table: every recipe trained and measured under all three protocols, beside what others reported.

The recipe `original` has a table of its own, too: its losses after each epoch beside the published ones, by the
original's measure.

Usage: python -m benchmarks.recipes [NAME ...] [--seeds 3] [--show] [--ensemble]

Needs the encoded corpus (`dvc repro encode`) and time: `original` takes hours. Finished trainings are kept in
`benchmarks/records/trials.jsonl` and not repeated; `--show` trains nothing. An interrupted training resumes.
`--ensemble` adds the mean of the probabilities of a recipe's models, for which models must be here, or are trained.

Shapes: M models, B rows, T time steps, V vocabulary, L layers, H hidden units.
"""

import sys
from collections.abc import Sequence
from typing import cast

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.harness import console, new_parser, print_table
from benchmarks.projects import ROOT, compose
from benchmarks.trials import Record, Trial, load_data, losses, run, trained
from charlstm.evaluation.difference import mean_and_deviation
from charlstm.evaluation.published import ORIGINAL_VAL_NATS_PER_CHAR
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from pipeline.stage.stage import guarded

ORIGINAL_TOLERANCE = 0.02  # nats/char, of each epoch's loss
ORIGINAL_TRAIN_NATS_PER_CHAR = (1.6597, 1.3996, 1.3330, 1.2937, 1.2665)  # where the validation losses were published
PROTOCOLS = ("windowed_100", "windowed_256", "stateful")


class Ensemble(nn.Module):
    """The mean of the probabilities of models of one shape, with the interface by which models are evaluated."""

    def __init__(self, models: Sequence[CharLSTM]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.shape = models[0].shape

    def forward(self, ids_BT: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Logits (B, T, V) of the mean probabilities, and the states (M L, B, H) of all models on top of each other."""
        state = state or self.zero_state(len(ids_BT))
        states = zip(*(part.chunk(len(self.models)) for part in state), strict=True)
        results = [model(ids_BT, LSTMState(*one)) for model, one in zip(self.models, states, strict=True)]
        logits_MBTV = torch.stack([logits_BTV for logits_BTV, _ in results])
        ends = zip(*(end for _, end in results), strict=True)
        return logits_MBTV.log_softmax(-1).logsumexp(0), LSTMState(*(torch.cat(parts) for parts in ends))

    def zero_state(self, num_rows: int) -> LSTMState:
        """The states (M L, B, H) before anything was read."""
        states = [cast(CharLSTM, model).zero_state(num_rows) for model in self.models]
        return LSTMState(*(torch.cat(parts) for parts in zip(*states, strict=True)))


def available() -> list[str]:
    """The names of all recipes."""
    return sorted(file.stem for file in (ROOT / "conf/recipe").glob("*.yaml"))


def main() -> int:
    """Train what is missing and print Markdown tables; the exit code is 1 if an epoch of `original` is too far off."""
    parser = new_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(available())}; all if none is given")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each, with the seeds 1, 2, ...")
    parser.add_argument("--show", action="store_true", help="print what is recorded, train nothing")
    parser.add_argument("--ensemble", action="store_true", help="measure the ensemble of each recipe's models, too")
    arguments = parser.parse_args()
    names = arguments.names or available()
    if unknown := set(names) - set(available()):
        parser.error(f"no such recipe: {', '.join(sorted(unknown))}; there are {', '.join(available())}")
    if arguments.seeds < 1:
        parser.error("--seeds: expected 1 or more")
    table = []
    for name in names:
        trials = [Trial((f"recipe={name}",), seed) for seed in range(1, arguments.seeds + 1)]
        kept = [trial.record() if arguments.show else run(trial) for trial in trials]
        table.append(_row(name, [record for record in kept if record is not None]))
        if arguments.ensemble:
            table.append(_row_of_ensemble(name, trials))
    published = compose(ROOT).evaluate.published
    for other in () if published is None else published.losses:
        cells = [f"{other.nats_per_char:.4f}" if other.protocol == protocol else "" for protocol in PROTOCOLS]
        table.append([other.system, "", "", "", *cells])
    print_table(("recipe", "seeds", "parameters", "seconds of training", *PROTOCOLS), table)
    record = Trial(("recipe=original",)).record() if "original" in names else None
    return 0 if record is None else int(_print_beside_the_original(record) > 0)


def _row(name: str, records: list[Record]) -> list[str]:
    if not records:
        return [f"`{name}`", "0", "", "", *("not recorded yet" for _ in PROTOCOLS)]
    trainings = pd.DataFrame(records)
    cells = [mean_and_deviation(list(trainings[protocol])) for protocol in PROTOCOLS]
    size, seconds = trainings["num_parameters"].iloc[0], trainings["train_seconds"].median()
    return [f"`{name}`", str(len(trainings)), f"{size:,}", f"{seconds:,.0f}", *cells]


def _row_of_ensemble(name: str, trials: Sequence[Trial]) -> list[str]:
    models = [trained(trial) for trial in trials]
    size, by_protocol = sum(model.shape.num_parameters for model in models), losses(Ensemble(models), load_data().val)
    cells = [f"{by_protocol[protocol]:.4f}" for protocol in PROTOCOLS]
    return [f"the ensemble of `{name}`", str(len(models)), f"{size:,}", "", *cells]


def beside_the_original(ours: pd.DataFrame) -> pd.DataFrame:
    """Our losses per epoch with the original's published ones beside them (empty past its 5 epochs)."""
    epochs = range(1, len(ORIGINAL_VAL_NATS_PER_CHAR) + 1)
    original = {
        "original_train_nats_per_char": ORIGINAL_TRAIN_NATS_PER_CHAR,
        "original_val_nats_per_char": ORIGINAL_VAL_NATS_PER_CHAR,
    }
    return ours.merge(pd.DataFrame({"epoch": epochs, **original}), on="epoch", how="outer").sort_values("epoch")


def _print_beside_the_original(record: Record) -> int:
    """A table of losses by epoch; in how many the validation loss is too far off."""
    ours = {"val_nats_per_char": record["by_epoch"], "train_nats_per_char": record["train_by_epoch"]}
    table = beside_the_original(pd.DataFrame({"epoch": range(1, record["epochs"] + 1), **ours}))
    off = table["val_nats_per_char"] - table["original_val_nats_per_char"]
    console.print()
    print_table(
        ("after epoch", "sliding_100, published", "recipe `original`", "difference", "training, published", "recipe"),
        (
            [
                str(row.epoch),
                f"{row.original_val_nats_per_char:.4f}",
                f"{row.val_nats_per_char:.4f}",
                f"{difference:+.4f}",
            ]
            + [f"{row.original_train_nats_per_char:.4f}", f"{row.train_nats_per_char:.4f}"]
            for row, difference in zip(table.itertuples(), off, strict=True)
        ),
    )
    return int((~(off.abs() <= ORIGINAL_TOLERANCE)).sum())  # an epoch that only one of them has is missed, too


if __name__ == "__main__":
    sys.exit(guarded(main))

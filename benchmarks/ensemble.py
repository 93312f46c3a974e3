"""Ensembles of a recipe's seeds, and models that learn while they read: not to be compared with the recipe table.

Usage: python -m benchmarks.ensemble NAME [--seeds 3]

One model beside the mean of all models' probabilities, under the static protocols and by dynamic evaluation (Krause et
al. 2018), whose weights follow the text that is scored. Trains what is missing; see `benchmarks.recipes`.
"""

import argparse
import sys

import pandas as pd
from rich.console import Console
from rich.progress import track

from benchmarks.dynamic import DynamicRule, Ensemble, dynamic
from benchmarks.recipes import PROTOCOLS, available
from benchmarks.trials import Trial, load_data, losses, train
from charlstm.model.char_lstm import CharLSTM
from charlstm.training.train import Data
from pipeline.stage.stage import guarded

RULE = DynamicRule()


def main() -> int:
    """Measure one model, all of them and their ensemble, and print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=available(), metavar="NAME", help=f"of {', '.join(available())}")
    parser.add_argument("--seeds", type=int, default=3, help="models, at least 2, trained with the seeds 1, 2, ...")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("an ensemble has at least two models")
    console, data = Console(highlight=False, soft_wrap=True), load_data()
    seeds = range(1, arguments.seeds + 1)
    models = [train(Trial((f"recipe={arguments.name}",), seed), console) for seed in seeds]
    alone = pd.DataFrame([measure(model, data) for model in track(models, "each model")])
    together = measure(Ensemble(models), data)
    for title, protocols in (("static", PROTOCOLS), (f"dynamic: {RULE}", ("dynamic",))):
        console.print(f"\n{title}\n\n| `{arguments.name}` | {' | '.join(protocols)} |\n|---|{'---|' * len(protocols)}")
        cells = [f"{alone[name].mean():.4f} ± {alone[name].std():.4f}" for name in protocols]
        console.print(f"| one model, {len(models)} seeds | {' | '.join(cells)} |")
        console.print(f"| their ensemble | {' | '.join(f'{together[name]:.4f}' for name in protocols)} |")
    return 0


def measure(model: CharLSTM | Ensemble, data: Data) -> dict[str, float]:
    """Nats per character under the static protocols, and by dynamic evaluation."""
    return losses(model, data.val_ids) | {"dynamic": dynamic(model, data.val_ids, data.train_ids, RULE).nats_per_char}


if __name__ == "__main__":
    sys.exit(guarded(main))

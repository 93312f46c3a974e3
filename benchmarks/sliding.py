"""A model by the original's own measure, beside the protocols.

Usage: python -m benchmarks.sliding [MODEL ...]

The original's published losses are means over a window of 100 at every character, 64 at a time. Each window starts from
the state in which the one 64 characters before it ended (`sliding_100`, `charlstm.evaluation.windows.sliding`).
A model is a folder, `artifacts/model` if none is given, or a recipe's name: the model of seed 1, trained now if it is
not here (see `benchmarks.recipes`). Needs the encoded corpus (`dvc repro encode`); two minutes each.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.projects import ROOT
from benchmarks.recipes import available
from benchmarks.trials import Trial, load_data, losses, train
from charlstm.errors import VocabularyError
from charlstm.evaluation.windows import sliding
from charlstm.model.model_folder import load_model
from pipeline.stage.hardware import set_num_threads
from pipeline.stage.stage import guarded

CONTEXT_LEN, BATCH_SIZE = 100, 64  # the original's


def main() -> int:
    """Measure each model and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder_or_name = f"a model folder, or one of {', '.join(available())}"
    parser.add_argument("models", nargs="*", metavar="MODEL", default=[ROOT / "artifacts/model"], help=folder_or_name)
    names = [str(name) for name in parser.parse_args().models]
    set_num_threads()
    console = Console(highlight=False, soft_wrap=True)
    saved = {name: load_model(Path(name), "fused") for name in names if name not in available()}
    data = load_data()
    for name, one in saved.items():
        if one.vocab != data.vocab:
            raise VocabularyError(f"{name}: a model of another text than the encoded one")
    models = [saved[name].model if name in saved else train(Trial((f"recipe={name}",)), console) for name in names]
    rows = []
    for model in track(models, "measuring"):
        own = sliding(model, data.val_ids, CONTEXT_LEN, BATCH_SIZE, slice(0, BATCH_SIZE)).nats_per_char
        rows.append({f"sliding_{CONTEXT_LEN}": own, **losses(model, data.val_ids)})
    console.print(f"| model | {' | '.join(rows[0])} |\n|---|{'---|' * len(rows[0])}")
    for name, row in zip(names, rows, strict=True):
        console.print(f"| {Path(name).name} | {' | '.join(f'{loss:.4f}' for loss in row.values())} |")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))

"""A model by the seed's own measure, beside the protocols.

Usage: python -m benchmarks.sliding [FOLDER ...]

The seed's published losses are means over a window of 100 at every character, 64 at a time, each going on from the
state in which the one 64 characters before it ended (`sliding_100`; see `charlstm.evaluate.sliding`). A model folder
is `artifacts/model`, which is the default, or one of `build/models`, where the benchmarks keep theirs. Needs the
encoded corpus (`dvc repro encode`); two minutes each.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.projects import ROOT
from benchmarks.trials import load_data, losses
from charlstm.errors import VocabularyError
from charlstm.evaluate import sliding
from charlstm.model_folder import load_model
from pipeline.hardware import set_num_threads
from pipeline.stage import guarded

CONTEXT_LEN, BATCH_SIZE = 100, 64  # the seed's


def main() -> int:
    """Measure each model and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", type=Path, default=[ROOT / "artifacts/model"])
    folders = parser.parse_args().folders
    set_num_threads()
    console = Console(highlight=False, soft_wrap=True)
    models = [load_model(folder, "fused") for folder in folders]
    data = load_data()
    for folder, one in zip(folders, models, strict=True):
        if one.vocab != data.vocab:
            raise VocabularyError(f"{folder}: a model of another text than the encoded one")
    rows = []
    for one in track(models, "measuring"):
        own = sliding(one.model, data.val_ids, CONTEXT_LEN, BATCH_SIZE, slice(0, BATCH_SIZE)).nats_per_char
        rows.append({f"sliding_{CONTEXT_LEN}": own, **losses(one.model, data.val_ids)})
    console.print(f"| model | {' | '.join(rows[0])} |\n|---|{'---|' * len(rows[0])}")
    for folder, row in zip(folders, rows, strict=True):
        console.print(f"| {folder.name} | {' | '.join(f'{loss:.4f}' for loss in row.values())} |")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))

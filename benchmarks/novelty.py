"""Plant foreign paragraphs in held-out text: at which rank does a model's surprise find them?

    python -m benchmarks.novelty --count 20 --seed 0

Each paragraph goes to a random place between two paragraphs of a random piece of the validation text, as often as
`--count` says. It is found where the first passage of the ranking that touches it lies by more than half in it, and
covers more than half of it. Printed: nats/char of the paragraph, how often it came first, and the median rank.
"""

import argparse
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

import charlstm
from pipeline.stage.stage import guarded

MODEL, TEXT = Path("artifacts/model"), Path("Datasets/split/val.txt")
PIECE = 8_000  # characters
NOT_FOUND = 1_000
PARAGRAPHS = {
    "German": """Es war einmal ein armer Mann, der lebte mit seiner Frau
in einem kleinen Haus am Rande des Waldes. Jeden Morgen
ging er hinaus, um Holz zu schlagen, das er in der Stadt
verkaufte, damit sie Brot kaufen konnten.
""",
    "French": """Le soleil brillait sur la mer, et les enfants couraient
le long de la plage en riant. Leur oncle les regardait
de loin, assis sur une vieille chaise de bois, et pensait
aux jours heureux de sa jeunesse.
""",
    "Latin": """Gallia est omnis divisa in partes tres, quarum unam
incolunt Belgae, aliam Aquitani, tertiam qui ipsorum lingua
Celtae, nostra Galli appellantur. Hi omnes lingua,
institutis, legibus inter se differunt.
""",
    "one line of French": """La vie est belle et courte, il faut en profiter.
""",
    "modern English": """To install the software, open a terminal window and type the
command shown below. Make sure that your computer is
connected to the internet before you begin. If the download
fails, check your network settings and try again.
""",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for each kind of paragraph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    model, text = charlstm.load(MODEL), TEXT.read_text(encoding="utf-8")
    console = Console(highlight=False, soft_wrap=True)
    console.print("| paragraph | nats/char | found first | median rank |\n|---|---|---|---|")
    for name, paragraph in PARAGRAPHS.items():
        generator = random.Random(options.seed)
        found = [rank_of(model, paragraph, text, generator) for _ in range(options.count)]
        nats, ranks = zip(*found, strict=True)
        first = f"{sum(rank == 1 for rank in ranks)} of {options.count}"
        console.print(f"| {name} | {statistics.mean(nats):.2f} | {first} | {statistics.median(ranks):g} |")
    return 0


def rank_of(model: charlstm.Model, paragraph: str, text: str, generator: random.Random) -> tuple[float, int]:
    """Nats/char of the paragraph in its place, and its rank."""
    start = generator.randrange(len(text) - PIECE)
    piece = text[start : start + PIECE]
    at = generator.choice([place + 2 for place in range(PIECE - 2) if piece[place : place + 2] == "\n\n"])
    end = at + len(paragraph)
    score = model.score(f"{piece[:at]}{paragraph}\n{piece[at:]}")
    nats = float(score.char_nats[at:end].mean())
    for rank, passage in enumerate(score.most_surprising(NOT_FOUND), 1):
        common = min(passage.end, end) - max(passage.start, at)
        if common > 0.5 * len(paragraph) and common > 0.5 * (passage.end - passage.start):
            return nats, rank
    return nats, NOT_FOUND


if __name__ == "__main__":
    sys.exit(guarded(main))

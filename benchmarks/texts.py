"""What reviews find in real texts: spans that look copied, and foreign paragraphs.

Usage: python -m benchmarks.texts copied TEXT...
       python -m benchmarks.texts novelty [--count 20] [--seed 0]

`copied`: the last tenth of each text is searched for in the rest of it, 500 characters at a time. No author recites, so
what is found there is chance. It is the measure of how long a span must be to be called a copy.

`novelty`: each foreign paragraph goes to a random place between two paragraphs of a random piece of the validation
text, as often as `--count` says. It is found where the first passage of the ranking that touches it lies by more than
half in it, and covers more than half of it. Printed: nats/char of the paragraph, how often it came first, and the
median rank.
"""

import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import charlstm
from benchmarks.harness import new_parser, print_table
from charlstm.evaluation.copied import copied_spans, covered
from charlstm.evaluation.statistics import MAX_TIMES
from pipeline.stage.stage import guarded

TEXT_LEN, LENGTHS, MAX_HELD_OUT = 500, (20, 25, 30, 40), 400  # characters; texts
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


def main() -> int:
    """Print a Markdown table."""
    parser = new_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("copied").add_argument("texts", nargs="+", metavar="TEXT", type=Path)
    novelty = commands.add_parser("novelty")
    novelty.add_argument("--count", type=int, default=20, help="how often each paragraph is planted")
    novelty.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.command == "copied":
        columns = ("text", "held out", *(f"{length} or more" for length in LENGTHS))
        print_table(columns, map(row_of_copied, arguments.texts))
    else:
        show_novelty(arguments.count, arguments.seed)
    return 0


def row_of_copied(file: Path) -> Sequence[str]:
    """The share of held-out characters in spans of each length that the rest has, but not often."""
    codes = np.frombuffer(file.read_text("utf-8", errors="replace").encode("utf-32-le"), np.uint32)
    train, rest = np.split(codes, [len(codes) * 9 // 10])
    texts = [rest[start : start + TEXT_LEN] for start in range(0, len(rest), TEXT_LEN)][:MAX_HELD_OUT]
    rare = [[span for span in spans if span.num_times <= MAX_TIMES] for spans in copied_spans(train, texts)]
    num_chars = sum(map(len, texts))
    shares = [
        sum(covered(span for span in spans if span.length >= length) for spans in rare) / num_chars
        for length in LENGTHS
    ]
    return file.name, f"{num_chars:,}", *(f"{share:.2%}" for share in shares)


def show_novelty(count: int, seed: int) -> None:
    """Print a row for each kind of paragraph."""
    model, text = charlstm.load(MODEL), TEXT.read_text(encoding="utf-8")
    rows = []
    for name, paragraph in PARAGRAPHS.items():
        generator = random.Random(seed)
        nats, ranks = zip(*(rank_of(model, paragraph, text, generator) for _ in range(count)), strict=True)
        first = f"{sum(rank == 1 for rank in ranks)} of {count}"
        rows.append((name, f"{statistics.mean(nats):.2f}", first, f"{statistics.median(ranks):g}"))
    print_table(("paragraph", "nats/char", "found first", "median rank"), rows)


def rank_of(model: charlstm.Model, paragraph: str, text: str, generator: random.Random) -> tuple[float, int]:
    """Nats/char of the paragraph in its place, and its rank."""
    start = generator.randrange(len(text) - PIECE)
    piece = text[start : start + PIECE]
    at = generator.choice([offset + 2 for offset in range(PIECE - 2) if piece[offset : offset + 2] == "\n\n"])
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

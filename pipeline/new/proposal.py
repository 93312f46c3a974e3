"""Which recipe fits a text: a rule of its size and its alphabet alone.

What it aims at is the recipe `quick` on tiny Shakespeare: 1 million training characters, read twice, in 980 steps.
A smaller text is read more often, by a smaller model with dropout. A much larger one is read once, by a larger model.
The table of real corpora in docs/benchmarks.md says the rest: once is not enough for a few megabytes, and a text whose
characters are rare, as Chinese ones, is known by heart before it is learned, so it needs dropout.
"""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from typing import NamedTuple

from charlstm.model.shape import ModelShape

TRAIN_FRACTION = 0.9
MIN_CHARS = 500  # a model learns next to nothing from fewer
CHARS_SEEN = 2_000_000  # in training
READ_TWICE = 5_000_000  # training characters, at most, that are read twice at least
RARE = 3_000  # occurrences: where a character has fewer on average, all are rare
RARE_DROPOUT, RARE_EPOCHS = 0.2, 4  # what it takes then, at least
MAX_EPOCHS = 60
# A model that has learned another text has less to learn, and forgets it at a high rate: see docs/data.md.
CHARS_SEEN_AGAIN = 1_000_000
AFTER_A_MODEL = {"train.learning_rate": 0.002, "train.muon.learning_rate": 0.006}
NUM_STEPS = 900
MAX_WARMUP_STEPS = 100
SIZES = ((32, 64), (16, 64), (16, 32), (8, 32), (4, 32), (4, 16), (2, 16), (1, 16))  # batch_size, context_len
MAX_ALPHABET = 3_000  # characters; of more, rare ones become U+FFFD
MAX_MIN_COUNT = 5
MAX_REPLACED = 0.01  # of the text
HUGE = 100_000_000  # characters; the validation of more takes long
# Training speed, in weights x characters a second a core: from the recipes' table in docs/recipes.md (Zen 4 with bf16).
WEIGHTS_PER_SECOND = 1.45e10
SLOWER_IN_FP32 = 2.2
SMALL_BATCH = 32  # rows; with fewer, a core is less busy


class Width(NamedTuple):
    """The model's sizes for up to so many training characters, and the dropout that goes with them."""

    up_to: float
    embedding_size: int
    hidden_size: int
    num_layers: int
    dropout: float  # of the output and before the block; a third of it for the embedding


WIDTHS = (
    Width(20_000, 32, 96, 1, 0.3),
    Width(100_000, 64, 192, 1, 0.3),
    Width(300_000, 128, 256, 1, 0.2),
    Width(800_000, 128, 320, 1, 0.1),
    Width(3_000_000, 128, 320, 1, 0.0),  # the recipe `quick`
    Width(30_000_000, 128, 256, 2, 0.0),  # the recipe `nanogpt`
    Width(float("inf"), 128, 512, 1, 0.0),
)


class Proposal(NamedTuple):
    """The proposed changes to the recipe `quick` and to what all recipes share, and why."""

    recipe: dict[str, object]  # by dotted name
    corpus: dict[str, object]
    reasons: list[str]
    num_weights: int  # that each character is multiplied with
    chars_seen: int
    batch_size: int

    def seconds(self, num_cores: int, is_bf16: bool) -> float:
        """Estimated seconds of training, on the cores of a machine like that of the recipes' table."""
        speed = WEIGHTS_PER_SECOND * num_cores / (1 if is_bf16 else SLOWER_IN_FP32)
        speed *= min(1.0, sqrt(self.batch_size / SMALL_BATCH))
        return self.chars_seen * self.num_weights / speed


def propose(
    num_chars: int, counts: Sequence[int], quick: Mapping[str, object], initial: ModelShape | None = None
) -> Proposal:
    """A recipe for a text of `num_chars` characters, of which each distinct one is there `counts` times.

    `quick` has the parameters of the recipe of that name. `initial` has the sizes of the model to begin from.
    """
    num_train = int(num_chars * TRAIN_FRACTION)
    are_rare = num_train < RARE * len(counts)
    width = next(width for width in WIDTHS if num_train <= width.up_to)
    least = 1 if num_train > READ_TWICE else RARE_EPOCHS if are_rare else 2
    epochs = min(MAX_EPOCHS, max(least, ceil((CHARS_SEEN_AGAIN if initial else CHARS_SEEN) / num_train)))
    if are_rare:
        width = width._replace(dropout=max(RARE_DROPOUT, width.dropout))
    if initial:
        sizes = {name: getattr(initial, name) for name in ("embedding_size", "hidden_size", "num_layers")}
        width = width._replace(**sizes)
    batch_size, context_len = _sizes(num_train, epochs)
    num_steps = _num_steps(num_train, epochs, batch_size, context_len)
    block = initial.feed_forward_size if initial else 320 if width.num_layers > 1 else width.hidden_size
    values: dict[str, object] = {
        "model.embedding_size": width.embedding_size,
        "model.hidden_size": width.hidden_size,
        "model.num_layers": width.num_layers,
        "model.feed_forward_size": block,
        "train.batch_size": batch_size,
        "train.context_len": context_len,
        "train.epochs": epochs,
        "train.warmup_steps": min(MAX_WARMUP_STEPS, num_steps // 8),
        "train.early_stopping_epochs": max(3, epochs // 6),
        "train.dropout.embedding": round(width.dropout / 3, 2),
        "train.dropout.between_layers": width.dropout,
        "train.dropout.output": width.dropout,
        **(AFTER_A_MODEL if initial else {}),
    }
    min_count = _min_count(counts)
    vocab_size = sum(count >= min_count for count in counts)
    corpus: dict[str, object] = {"encode.min_count": min_count} if min_count > 1 else {}
    if num_chars > HUGE:
        corpus |= {"train.validation_chars": 1_000_000, "evaluate.max_chars": 10_000_000}
    units = f"{width.hidden_size} units" + (f" in each of {width.num_layers} layers" if width.num_layers > 1 else "")
    dropout = f", dropout of {width.dropout}" if width.dropout else ""
    again = "once" if epochs == 1 else f"{epochs} times"
    reasons = [f"{units}{dropout}: {num_train:,} characters to train on, read {again}"]
    if (batch_size, context_len) != SIZES[0]:
        reasons.append(f"{batch_size} rows of {context_len} characters a step: so there are {num_steps:,} steps")
    if min_count > 1:
        reasons.append(
            f"encode.min_count {min_count}: of {len(counts):,} characters, {vocab_size:,} are kept, rarer ones become "
            f"U+FFFD (encode.unit: byte keeps all)"
        )
    if num_chars > HUGE:
        reasons.append("validation after each epoch on 1,000,000 characters, evaluation on 10,000,000")
    hidden = width.hidden_size
    lstm = 4 * hidden * (width.embedding_size + hidden) + (width.num_layers - 1) * 8 * hidden * hidden
    num_weights = lstm + 2 * hidden * block + hidden * vocab_size
    recipe = {name: value for name, value in values.items() if value != quick[name]}
    return Proposal(recipe, corpus, reasons, num_weights, epochs * num_train, batch_size)


def _sizes(num_train: int, epochs: int) -> tuple[int, int]:
    """The largest batch that leaves enough steps; the smallest where none does."""
    fitting = [one for one in SIZES if one[0] * one[1] < num_train]
    enough = (one for one in fitting if _num_steps(num_train, epochs, *one) >= NUM_STEPS)
    return next(enough, (fitting or SIZES)[-1])


def _num_steps(num_train: int, epochs: int, batch_size: int, context_len: int) -> int:
    """The number of steps, in streams: each character but the last is read once an epoch."""
    return epochs * ceil(ceil((num_train - 1) / batch_size) / context_len)


def _min_count(counts: Sequence[int]) -> int:
    """Rare characters become U+FFFD until at most 3,000 are left, as long as that is hardly ever."""
    num_left, min_count = len(counts), 1
    for least in range(2, MAX_MIN_COUNT + 1):
        kept = [count for count in counts if count >= least]
        if num_left <= MAX_ALPHABET or sum(counts) - sum(kept) > MAX_REPLACED * sum(counts):
            break
        if len(kept) < num_left:
            num_left, min_count = len(kept), least
    return min_count

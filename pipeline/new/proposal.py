"""Which recipe fits a text: by its size and its alphabet alone, and what helps if a training of it is worse than hoped.

`pipeline.new.budget` has the rules for a given time.

What it aims at is the recipe `quick` on tiny Shakespeare: 1 million training characters, read twice, in 980 steps.
A smaller text is read more often, by a smaller model with dropout. A much larger one is read once, by a larger model.
The table of real corpora in docs/benchmarks.md says the rest: once is not enough for a few megabytes, and a text whose
characters are rare, as Chinese ones, takes more epochs.
"""

from collections.abc import Mapping, Sequence
from math import ceil, log2, sqrt
from typing import NamedTuple

from charlstm.model.shape import ModelShape
from charlstm.params import NOTHING, Params
from charlstm.text.vocabulary import NUM_BYTES, Unit
from pipeline.hardware import num_threads

TRAIN_FRACTION = 0.9
MIN_CHARS = 500  # a model learns next to nothing from fewer
CHARS_SEEN = 2_000_000  # in training
READ_TWICE = 5_000_000  # training characters, at most, that are read twice at least
RARE = 3_000  # occurrences: where a character has fewer on average, all are rare
RARE_EPOCHS = 4  # that such a text is read, at least
MAX_EPOCHS = 60
USEFUL_EPOCHS, USEFUL_AFTER_A_MODEL = 20, 12  # more do harm, but to a short text
# A long text is hardly memorized, and takes many steps: it wants less of these than `quick` has (docs/benchmarks.md).
RATES = ("train.muon.learning_rate", "train.weight_decay")
LONG = 3_500_000  # training characters; beyond, they fall in proportion to the length
LEAST_SHARE = 1 / 3  # no longer text was measured
# A model that has learned another text has less to learn, and forgets it at a high rate: see docs/benchmarks.md. How
# soon it has learned enough depends on how near the texts are: the rate stays higher, and any epoch may be the best.
CHARS_SEEN_AGAIN = 1_000_000
AFTER_A_MODEL = {
    "train.learning_rate": 0.002,
    "train.muon.learning_rate": 0.006,
    "train.final_learning_rate_fraction": 0.5,
    "train.weight_decay": 0.01,
}
DROPOUT_AFTER_A_MODEL = 0.1
FEW = 1_000_000  # training characters: fewer gain more from a model to begin from than from time
# By the risk of overfitting: none up to 10, 0.1 at 20, 0.2 at 40.
DROPOUT_FROM, DROPOUT_PER_DOUBLING, MAX_DROPOUT = 10.0, 0.1, 0.4
NUM_STEPS = 900
MAX_WARMUP_STEPS = 100
SIZES = ((32, 64), (16, 64), (16, 32), (8, 32), (4, 32), (4, 16), (2, 16), (1, 16))  # batch_size, context_len
MAX_ALPHABET = 3_000  # characters; of more, rare ones become U+FFFD
MAX_MIN_COUNT = 5
MAX_REPLACED = 0.01  # of the text
HUGE = 100_000_000  # characters; the validation of more takes long
VALIDATED, EVALUATED = 1_000_000, 10_000_000  # then
# Training speed, in weights x characters a second a core: from README's table of recipes (Zen 4 with bf16).
WEIGHTS_PER_SECOND = 1.45e10
SLOWER_IN_FP32 = 2.2
SMALL_BATCH = 32  # rows; with fewer, a core is less busy


class Width(NamedTuple):
    """The model's sizes for up to so many training characters."""

    up_to: float
    embedding_size: int
    hidden_size: int
    num_layers: int


WIDTHS = (
    Width(20_000, 32, 96, 1),
    Width(100_000, 64, 192, 1),
    Width(300_000, 128, 256, 1),
    Width(3_000_000, 128, 320, 1),  # the recipe `quick`
    Width(30_000_000, 128, 256, 2),
    Width(float("inf"), 128, 512, 1),
)


class Text(NamedTuple):
    """What a proposal depends on. A character may also be a byte: what the model reads one of at a time."""

    num_chars: int
    counts: Sequence[int]  # of each distinct character
    unit: Unit = "character"

    @property
    def num_train(self) -> int:
        """The characters of the training part."""
        return int(self.num_chars * TRAIN_FRACTION)

    @property
    def num_validated(self) -> int:
        """The characters that are read after each epoch."""
        num_val = self.num_chars - self.num_train
        return min(num_val, VALIDATED) if self.num_chars > HUGE else num_val

    @property
    def is_of_rare_characters(self) -> bool:
        """Whether its characters are rare on average."""
        return self.num_train < RARE * len(self.counts)

    @property
    def min_count(self) -> int:
        """Rarer characters become U+FFFD, so that at most 3,000 are left, as long as that is hardly ever."""
        num_left, min_count = len(self.counts), 1
        for least in range(2, MAX_MIN_COUNT + 1):
            kept = [count for count in self.counts if count >= least]
            if num_left <= MAX_ALPHABET or sum(self.counts) - sum(kept) > MAX_REPLACED * sum(self.counts):
                break
            if len(kept) < num_left:
                num_left, min_count = len(kept), least
        return min_count

    @property
    def vocab_size(self) -> int:
        """The number of characters that a model tells apart."""
        if self.unit == "byte":
            return NUM_BYTES
        least = self.min_count
        return sum(count >= least for count in self.counts)


class Training(NamedTuple):
    """The sizes of a training."""

    num_train: int  # characters of the training part
    shape: ModelShape
    epochs: int
    batch_size: int
    context_len: int
    begins_from_model: bool = False

    @property
    def chars_seen(self) -> int:
        """Characters that are read, in all epochs."""
        return self.epochs * self.num_train

    @property
    def overfitting_risk(self) -> float:
        """Epochs x weights for each character of the text: the larger, the more of it the model can memorize."""
        return self.epochs * self.shape.num_multiplied / self.num_train

    @property
    def dropout(self) -> float:
        """The dropout of the output and before the block; the embedding's is a third of it."""
        if self.begins_from_model:
            return DROPOUT_AFTER_A_MODEL
        doublings = log2(max(1.0, self.overfitting_risk / DROPOUT_FROM))
        return round(min(MAX_DROPOUT, DROPOUT_PER_DOUBLING * doublings), 2)

    @property
    def share_of_rate(self) -> float:
        """How much of the `RATES` of `quick` is left: less for a long text."""
        return max(LEAST_SHARE, min(1.0, LONG / self.num_train))

    @property
    def num_steps(self) -> int:
        """The number of steps, in streams: each character but the last is read once an epoch."""
        return self.epochs * ceil(ceil((self.num_train - 1) / self.batch_size) / self.context_len)

    def seconds(self, num_cores: int, is_bf16: bool) -> float:
        """Estimated seconds of training, on the cores of a machine like that of the recipes' table."""
        threads = num_threads(self.batch_size * self.shape.hidden_size**2, num_cores)
        speed = WEIGHTS_PER_SECOND * threads / (1 if is_bf16 else SLOWER_IN_FP32)
        speed *= min(1.0, sqrt(self.batch_size / SMALL_BATCH))
        return self.chars_seen * self.shape.num_multiplied / speed

    def recipe(self) -> dict[str, object]:
        """Its parameters by dotted name."""
        return {
            "model.embedding_size": self.shape.embedding_size,
            "model.hidden_size": self.shape.hidden_size,
            "model.num_layers": self.shape.num_layers,
            "model.feed_forward_size": self.shape.feed_forward_size,
            "train.batch_size": self.batch_size,
            "train.context_len": self.context_len,
            "train.epochs": self.epochs,
            "train.warmup_steps": min(MAX_WARMUP_STEPS, self.num_steps // 8),
            "train.early_stopping_epochs": max(3, self.epochs // 6),
            "train.dropout.embedding": round(self.dropout / 3, 2),
            "train.dropout.between_layers": self.dropout,
            "train.dropout.output": self.dropout,
            **(AFTER_A_MODEL if self.begins_from_model else {}),
        }

    def reasons(self, text: Text) -> list[str]:
        """What it is, for people."""
        hidden, num_layers = self.shape.hidden_size, self.shape.num_layers
        units = f"{hidden} units" + (f" in each of {num_layers} layers" if num_layers > 1 else "")
        dropout = f", dropout of {self.dropout}" if self.dropout else ""
        again = "once" if self.epochs == 1 else f"{self.epochs} times"
        reasons = [f"{units}{dropout}: {text.num_train:,} {text.unit}s to train on, read {again}"]
        if (self.batch_size, self.context_len) != SIZES[0]:
            sizes = f"{self.batch_size} rows of {self.context_len} {text.unit}s a step"
            reasons.append(f"{sizes}: so there are {self.num_steps:,} steps")
        return reasons


class Proposal(NamedTuple):
    """The proposed changes to the recipe `quick` and to what all recipes share, and why."""

    recipe: dict[str, object]  # by dotted name
    corpus: dict[str, object]
    reasons: list[str]
    training: Training | None  # None: it was planned before


def propose(text: Text, quick: Mapping[str, object], training: Training) -> Proposal:
    """The parameters of `training` for this text, as changes to `quick`, the parameters of the recipe of that name."""
    corpus: dict[str, object] = {"encode.min_count": text.min_count} if text.min_count > 1 else {}
    reasons = training.reasons(text)
    if text.min_count > 1:
        reasons.append(
            f"encode.min_count {text.min_count}: of {len(text.counts):,} characters, at most {text.vocab_size:,} are "
            f"kept, rarer ones become U+FFFD (encode.unit: byte keeps all)"
        )
    if text.num_chars > HUGE:
        corpus |= {"train.validation_chars": VALIDATED, "evaluate.max_chars": EVALUATED}
        reasons.append(f"validation after each epoch on {VALIDATED:,} characters, evaluation on {EVALUATED:,}")
    recipe = {name: value for name, value in training.recipe().items() if value != quick[name]}
    if training.share_of_rate < 1 and not training.begins_from_model:
        recipe |= {name: round(float(str(quick[name])) * training.share_of_rate, 3) for name in RATES}
        reasons.append("Muon's rate and the weight decay are lower than those of quick, since the text is long")
    return Proposal(recipe, corpus, reasons, training)


def training_for(text: Text, initial: ModelShape | None = None) -> Training:
    """A training by the size of the text. `initial` has the sizes of the model to begin from."""
    num_train = text.num_train
    width = next(width for width in WIDTHS if num_train <= width.up_to)
    least = 1 if num_train > READ_TWICE else RARE_EPOCHS if text.is_of_rare_characters else 2
    epochs = min(MAX_EPOCHS, max(least, ceil((CHARS_SEEN_AGAIN if initial else CHARS_SEEN) / num_train)))
    block = 320 if width.num_layers > 1 else width.hidden_size
    own = ModelShape(text.vocab_size, width.embedding_size, width.hidden_size, width.num_layers, block)
    shape = initial._replace(vocab_size=text.vocab_size) if initial else own
    return Training(num_train, shape, epochs, *sizes_for(num_train, epochs), begins_from_model=initial is not None)


def useful_epochs(num_train: int, *, begins_from_model: bool) -> int:
    """More epochs than this do not help."""
    epochs, chars_seen = (USEFUL_AFTER_A_MODEL, CHARS_SEEN_AGAIN) if begins_from_model else (USEFUL_EPOCHS, CHARS_SEEN)
    return min(MAX_EPOCHS, max(epochs, ceil(chars_seen / num_train)))


def sizes_for(num_train: int, epochs: int) -> tuple[int, int]:
    """The largest batch that leaves enough steps; the smallest where none does."""
    fitting = [one for one in SIZES if one[0] * one[1] < num_train]
    enough = (one for one in fitting if epochs * ceil(ceil((num_train - 1) / one[0]) / one[1]) >= NUM_STEPS)
    return next(enough, (fitting or SIZES)[-1])


def remedy(
    params: Params, *, best_epoch: int, num_epochs: int, num_train_chars: int, vocab_size: int, num_parameters: int
) -> str:
    """Advice for lowering the loss of a training that is done, and whose validation loss was lowest after `best_epoch`.

    A model whose loss rose at last has memorized its training text: it needs dropout or fewer units, not more epochs.
    Where training began from a model, the sizes and the unit stay those of that one.
    """
    begins_from_model = params.train.initial != NOTHING
    dropout = params.train.dropout
    most = max(dropout.embedding, dropout.between_layers, dropout.output)
    if best_epoch == num_epochs:
        trend = "the loss still fell in the last epoch" if num_epochs > 1 else "there was one epoch"
        ways = []
        if num_epochs < useful_epochs(num_train_chars, begins_from_model=begins_from_model):
            ways.append("train longer (train.epochs)")
        if num_train_chars > num_parameters and not begins_from_model:
            ways.append("take more units (model.hidden_size)")
    else:
        trend = f"the loss rose after epoch {best_epoch} of {num_epochs}"
        if most < MAX_DROPOUT:
            more = f"more dropout than {most:g}" if most else "dropout"
            example = round(min(MAX_DROPOUT, most + 0.1), 2)
            ways = [f"give it {more} (train.dropout.output and train.dropout.between_layers, e.g. {example})"]
        else:
            ways = [f"find more text, since there is dropout of {most:g} already"]
        if not begins_from_model:
            ways.append("take fewer units (model.hidden_size)")
    if num_train_chars < FEW and not begins_from_model:
        ways.insert(0, "begin from a model of a longer text in the same language (charlstm new TEXT --from MODEL)")
    if params.encode.unit == "character" and vocab_size > NUM_BYTES and num_train_chars < RARE * vocab_size:
        how = "encode.min_count" if begins_from_model else "encode.min_count or encode.unit: byte"
        ways.append(f"have fewer than {vocab_size:,} characters ({how})")
    return f"{trend}: {', or '.join(ways) or 'find more text'}"

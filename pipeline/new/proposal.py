"""The recipe for a text, chosen by the text's size and alphabet or for a training time.

docs/data.md explains the rules, and docs/benchmarks.md shows their results on real texts.
"""

from collections.abc import Mapping, Sequence
from math import ceil, log2
from typing import TYPE_CHECKING, NamedTuple

from charlstm.model.shape import ModelShape
from charlstm.params import NOTHING, Params
from charlstm.text.vocabulary import NUM_BYTES, Unit

if TYPE_CHECKING:
    from charlstm.review.document import ReviewDocument

MIN_CHARS = 500  # from a shorter text, a model learns next to nothing
TRAIN_FRACTION = 0.9  # the training part's share of the text

# Over all epochs, training reads at least CHARS_SEEN characters.
# Training that starts from an existing model reads at least CHARS_SEEN_AGAIN characters.
CHARS_SEEN = 2_000_000
CHARS_SEEN_AGAIN = 1_000_000
MAX_EPOCHS = 60  # no text is read more often than this
# A training part of at most this many characters is read at least twice.
READ_TWICE = 5_000_000
# The characters of a text are rare if they occur fewer than MIN_MEAN_COUNT times on average.
# Up to READ_TWICE characters, a text with rare characters is read at least RARE_EPOCHS times.
MIN_MEAN_COUNT = 3_000
RARE_EPOCHS = 4
# More epochs than this make the loss worse, unless the text is short.
USEFUL_EPOCHS = 20
USEFUL_AFTER_A_MODEL = 12

# A model hardly memorizes a long text, and is trained on it for many steps.
# So a long text needs lower RATES than the recipe `quick` has (docs/benchmarks.md).
# Beyond LONG_TRAIN_CHARS training characters, both rates are inversely proportional to the length.
# Rates never fall below LEAST_SHARE of those in `quick`: longer texts were not measured.
RATES = ("train.muon.learning_rate", "train.weight_decay")
LONG_TRAIN_CHARS = 3_500_000
LEAST_SHARE = 1 / 3

# An existing model has less to learn, and forgets at a high learning rate (docs/benchmarks.md).
AFTER_A_MODEL = {
    "train.learning_rate": 0.002,
    "train.final_learning_rate_fraction": 0.5,
    "train.weight_decay": 0.01,
}
# train.muon.learning_rate if training starts from a model. A short text needs the lower value.
MUON_AFTER_A_MODEL = 0.012
MUON_OF_SHORT = 0.006
DROPOUT_AFTER_A_MODEL = 0.1
# With fewer training characters than this, an initial model helps more than longer training.
FEW_TRAIN_CHARS = 1_000_000

# Dropout depends on epochs * weights / characters, and is 0 if this ratio is below DROPOUT_FROM.
# Each doubling of the ratio adds DROPOUT_PER_DOUBLING, up to MAX_DROPOUT.
DROPOUT_FROM = 10.0
DROPOUT_PER_DOUBLING = 0.1
MAX_DROPOUT = 0.4

# (batch_size, context_len) is the largest pair in SIZES that gives at least NUM_STEPS steps.
NUM_STEPS = 900
MAX_WARMUP_STEPS = 100
SIZES = ((32, 64), (16, 64), (16, 32), (8, 32), (4, 32), (4, 16), (2, 16), (1, 16))

# If an alphabet has more than MAX_ALPHABET characters, rare characters become U+FFFD.
# Only characters that occur fewer than MAX_MIN_COUNT times are replaced.
MAX_ALPHABET = 3_000
MAX_MIN_COUNT = 5
MAX_REPLACED = 0.01  # largest fraction of the text's characters that may be replaced

# For a text longer than HUGE_CHARS characters, only part of the validation text is measured.
HUGE_CHARS = 100_000_000
VALIDATED = 1_000_000
EVALUATED = 10_000_000

# Each entry: the maximum number of training characters, and the model's
# (embedding_size, hidden_size, num_layers, feed_forward_size).
WIDTHS = (
    (20_000, (32, 96, 1, 96)),
    (100_000, (64, 192, 1, 192)),
    (300_000, (128, 256, 1, 256)),
    (3_000_000, (128, 320, 1, 320)),  # the recipe `quick`
    (30_000_000, (128, 256, 2, 320)),
    (float("inf"), (128, 512, 1, 512)),
)

# Parameters for a batch of MANY_ROWS rows (see docs/recipes.md).
MANY_ROWS = 256
OF_MANY_ROWS = {
    "train.learning_rate": 0.02,
    "train.muon.learning_rate": 0.168,
    "train.weight_decay": 0.112,
    "train.adam_beta2": 0.97,
    "train.ema_decay": 0.995,
}
SHORT_TRAIN_CHARS = 300_000


class TextCounts(NamedTuple):
    """Properties of a text that determine which recipe is proposed for it."""

    num_chars: int  # bytes for a byte model
    counts: Sequence[int]  # occurrences of each distinct character
    unit: Unit = "character"

    @property
    def num_train(self) -> int:
        """The number of characters in the training part."""
        return int(self.num_chars * TRAIN_FRACTION)

    @property
    def min_count(self) -> int:
        """The value of `encode.min_count`: characters with fewer occurrences become U+FFFD.

        The value is 1 if the alphabet is small enough, or if too much text would be replaced.
        """
        min_count = 1
        if self.unit == "byte":
            return min_count
        num_left = len(self.counts)
        for least in range(2, MAX_MIN_COUNT + 1):
            kept = [count for count in self.counts if count >= least]
            num_replaced = sum(self.counts) - sum(kept)
            if num_left <= MAX_ALPHABET or num_replaced > MAX_REPLACED * sum(self.counts):
                break
            if len(kept) < num_left:
                num_left = len(kept)
                min_count = least
        return min_count

    @property
    def vocab_size(self) -> int:
        """The number of characters that a model distinguishes."""
        least = self.min_count
        return NUM_BYTES if self.unit == "byte" else sum(count >= least for count in self.counts)


class Training(NamedTuple):
    """The sizes that determine a training: text, model, epochs and batches."""

    num_train: int  # characters in the training part
    shape: ModelShape
    epochs: int
    batch_size: int
    context_len: int
    begins_from_model: bool = False

    @property
    def dropout(self) -> float:
        """The dropout rate of the output and between layers. The embedding's rate is a third of it.

        The rate grows with epochs * weights / characters, because the larger this ratio is, the
        more the model can memorize.
        """
        if self.begins_from_model:
            return DROPOUT_AFTER_A_MODEL
        risk = self.epochs * self.shape.num_multiplied / self.num_train
        dropout = DROPOUT_PER_DOUBLING * log2(max(1.0, risk / DROPOUT_FROM))
        return round(min(MAX_DROPOUT, dropout), 2)

    @property
    def num_steps(self) -> int:
        """The number of steps. Each epoch reads every character but the last exactly once."""
        return self.epochs * ceil(ceil((self.num_train - 1) / self.batch_size) / self.context_len)

    def recipe(self) -> dict[str, object]:
        """Return the parameters of this training, by dotted name."""
        recipe: dict[str, object] = {
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
        }
        if self.batch_size == MANY_ROWS:
            recipe |= OF_MANY_ROWS
        if self.begins_from_model:
            is_short = self.num_train <= SHORT_TRAIN_CHARS
            recipe |= AFTER_A_MODEL
            recipe["train.muon.learning_rate"] = MUON_OF_SHORT if is_short else MUON_AFTER_A_MODEL
        return recipe


class Proposal(NamedTuple):
    """Proposed parameter values by dotted name, with the reasons for them."""

    recipe: dict[str, object]  # changes to the recipe `quick`
    corpus: dict[str, object]  # changes to the default corpus's parameters
    reasons: list[str]


def propose(text: TextCounts, quick: Mapping[str, object], training: Training) -> Proposal:
    """Return the parameters for a text and a training, as changes to the recipe `quick`.

    `quick` has all parameters of this recipe.
    """
    shape = training.shape
    layers = f" in each of {shape.num_layers} layers" if shape.num_layers > 1 else ""
    model = f"{shape.hidden_size} units{layers}, dropout {training.dropout:g}"
    times = "once" if training.epochs == 1 else f"{training.epochs} times"
    steps = f"{training.num_steps:,} steps of {training.batch_size} x {training.context_len}"
    reasons = [f"{model}: reads {text.num_train:,} training {text.unit}s {times}, in {steps}"]

    corpus: dict[str, object] = {}
    if text.min_count > 1:
        corpus["encode.min_count"] = text.min_count
        kept = f"keeps at most {text.vocab_size:,} of {len(text.counts):,} characters"
        reasons.append(f"encode.min_count {text.min_count}: {kept}, the rarest become U+FFFD")
    if text.num_chars > HUGE_CHARS:
        corpus |= {"train.validation_chars": VALIDATED, "evaluate.max_chars": EVALUATED}
        reasons.append(
            f"validation after each epoch on {VALIDATED:,} characters, evaluation on {EVALUATED:,}"
        )

    recipe = {name: value for name, value in training.recipe().items() if value != quick[name]}
    if text.num_train > LONG_TRAIN_CHARS and not training.begins_from_model:
        share = max(LEAST_SHARE, LONG_TRAIN_CHARS / text.num_train)
        for name in RATES:
            recipe[name] = round(float(str(recipe.get(name, quick[name]))) * share, 3)
        reasons.append(
            "the text is long: Muon's learning rate and the weight decay are lower than in quick"
        )
    return Proposal(recipe, corpus, reasons)


def training_for(text: TextCounts, initial: ModelShape | None = None) -> Training:
    """Choose a training by the size of the text. `initial` is the shape of the initial model."""
    num_train = text.num_train
    if num_train > READ_TWICE:
        least = 1
    elif num_train < MIN_MEAN_COUNT * len(text.counts):
        least = RARE_EPOCHS
    else:
        least = 2
    chars_seen = CHARS_SEEN_AGAIN if initial else CHARS_SEEN
    epochs = min(MAX_EPOCHS, max(least, ceil(chars_seen / num_train)))
    widths = next(widths for up_to, widths in WIDTHS if num_train <= up_to)
    shape = (initial or ModelShape(0, *widths))._replace(vocab_size=text.vocab_size)
    return Training(num_train, shape, epochs, *sizes_for(num_train, epochs), initial is not None)


def sizes_for(num_train: int, epochs: int) -> tuple[int, int]:
    """Return the largest (batch_size, context_len) with enough steps, or else the smallest pair."""
    fitting = [sizes for sizes in SIZES if sizes[0] * sizes[1] < num_train]
    for batch_size, context_len in fitting:
        if epochs * ceil(ceil((num_train - 1) / batch_size) / context_len) >= NUM_STEPS:
            return batch_size, context_len
    return (fitting or SIZES)[-1]


def useful_epochs(num_train: int, *, begins_from_model: bool) -> int:
    """Return the number of epochs beyond which more training does not lower the loss."""
    epochs = USEFUL_AFTER_A_MODEL if begins_from_model else USEFUL_EPOCHS
    chars_seen = CHARS_SEEN_AGAIN if begins_from_model else CHARS_SEEN
    return min(MAX_EPOCHS, max(epochs, ceil(chars_seen / num_train)))


def remedy(params: Params, review: "ReviewDocument") -> str:
    """Return advice for lowering the loss of a reviewed model."""
    begins_from_model = params.train.initial != NOTHING
    dropout = params.train.dropout.output
    num_epochs = review.num_epochs
    num_train_chars = review.num_train_chars
    ways = []
    if num_train_chars < FEW_TRAIN_CHARS and not begins_from_model:
        ways.append(
            "start from a model of a longer text in the same language "
            "(charlstm new TEXT --from MODEL)"
        )
    if review.best_epoch < num_epochs:
        trend = f"the loss rose after epoch {review.best_epoch} of {num_epochs}"
        if dropout < MAX_DROPOUT:
            ways.append(f"use more dropout than {dropout:g} (train.dropout.output)")
        if not begins_from_model:
            ways.append("use fewer units (model.hidden_size)")
    else:
        trend = "the loss still fell in the last epoch"
        if num_epochs < useful_epochs(num_train_chars, begins_from_model=begins_from_model):
            ways.append("train longer (train.epochs)")
        if num_train_chars > review.num_parameters and not begins_from_model:
            ways.append("use more units (model.hidden_size)")
    # The vocabulary of a byte model has NUM_BYTES entries.
    vocab_size = review.vocab_size
    if vocab_size > NUM_BYTES and num_train_chars < MIN_MEAN_COUNT * vocab_size:
        ways.append(f"keep fewer than {vocab_size:,} characters (encode.min_count)")
    return f"{trend}: {', or '.join(ways) or 'find more text'}"

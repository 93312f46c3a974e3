"""Which recipe fits a text: by its size and its alphabet alone, or for a time; and what may lower a loss afterwards.

docs/data.md has the rules, docs/benchmarks.md what they make of real texts.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, log2
from typing import NamedTuple

from charlstm.errors import CorpusError
from charlstm.model.shape import ModelShape
from charlstm.params import NOTHING, Params
from charlstm.text.byte_vocabulary import NUM_BYTES
from charlstm.text.vocabulary import Unit

TRAIN_FRACTION = 0.9
MIN_CHARS = 500  # a model learns next to nothing from fewer
CHARS_SEEN, CHARS_SEEN_AGAIN = 2_000_000, 1_000_000  # in training, and after another text
READ_TWICE = 5_000_000  # training characters, at most, that are read twice at least
MIN_MEAN_COUNT = 3_000  # occurrences: where a character has fewer on average, all are rare
RARE_EPOCHS = 4  # that such a text is read, at least
MAX_EPOCHS = 60
USEFUL_EPOCHS, USEFUL_AFTER_A_MODEL = 20, 12  # more do harm, but to a short text
# A long text is hardly memorized, and takes many steps: it wants less of these than `quick` has (docs/benchmarks.md).
RATES = ("train.muon.learning_rate", "train.weight_decay")
LONG_TRAIN_CHARS = 3_500_000  # training characters; beyond, they fall in proportion to the length
LEAST_SHARE = 1 / 3  # no longer text was measured
# A model that has learned another text has less to learn, and forgets it at a high rate: see docs/benchmarks.md.
AFTER_A_MODEL = {
    "train.learning_rate": 0.002,
    "train.final_learning_rate_fraction": 0.5,
    "train.weight_decay": 0.01,
}
MUON_AFTER_A_MODEL, MUON_OF_SHORT = 0.012, 0.006  # train.muon.learning_rate; that of a short text
DROPOUT_AFTER_A_MODEL = 0.1
FEW_TRAIN_CHARS = (
    1_000_000  # training characters: fewer gain more from a model to begin from than from time
)
DROPOUT_FROM, DROPOUT_PER_DOUBLING, MAX_DROPOUT = 10.0, 0.1, 0.4
NUM_STEPS, MAX_WARMUP_STEPS = 900, 100
SIZES = (
    (32, 64),
    (16, 64),
    (16, 32),
    (8, 32),
    (4, 32),
    (4, 16),
    (2, 16),
    (1, 16),
)  # batch_size, context_len
MAX_ALPHABET = 3_000  # characters; of more, rare ones become U+FFFD
MAX_MIN_COUNT, MAX_REPLACED = 5, 0.01  # of the text
HUGE_CHARS = 100_000_000  # characters; the validation of more takes long
VALIDATED, EVALUATED = 1_000_000, 10_000_000  # then
# For up to so many training characters: embedding_size, hidden_size, num_layers, feed_forward_size.
WIDTHS = (
    (20_000, (32, 96, 1, 96)),
    (100_000, (64, 192, 1, 192)),
    (300_000, (128, 256, 1, 256)),
    (3_000_000, (128, 320, 1, 320)),  # the recipe `quick`
    (30_000_000, (128, 256, 2, 320)),
    (float("inf"), (128, 512, 1, 512)),
)
# For a time.
HIDDEN_SIZES = (64, 128, 192, 320, 512, 768, 1024, 1536)
MAX_EMBEDDING, MAX_BLOCK = 128, 512
LARGE_TRAIN_CHARS, LARGE_SIZES = (
    500_000,
    (64, 64),
)  # training characters: with more, steps are longer
MIN_CHARS_PER_WEIGHT = 3.0
SHORT_TRAIN_CHARS, MAX_WEIGHTS_PER_CHAR, MAX_WEIGHTS_OF_SHORT = 300_000, 2.5, 4.0
USED = 1.05  # of the time, at most: epochs are whole, and 5 % too late is nearer to it than 20 % too early
VALIDATION_COST = 1 / 3  # of the time that training takes for a character


class TextCounts(NamedTuple):
    """What a proposal depends on."""

    num_chars: int  # or bytes, for a model of bytes
    counts: Sequence[int]  # of each distinct character
    unit: Unit = "character"

    @property
    def num_train(self) -> int:
        """The characters of the training part."""
        return int(self.num_chars * TRAIN_FRACTION)

    @property
    def min_count(self) -> int:
        """Rarer characters become U+FFFD, so that at most 3,000 are left, as long as that is hardly ever."""
        num_left, min_count = len(self.counts), 1
        for least in range(2, MAX_MIN_COUNT + 1) if self.unit == "character" else ():
            kept = [count for count in self.counts if count >= least]
            if num_left <= MAX_ALPHABET or sum(self.counts) - sum(kept) > MAX_REPLACED * sum(
                self.counts
            ):
                break
            if len(kept) < num_left:
                num_left, min_count = len(kept), least
        return min_count

    @property
    def vocab_size(self) -> int:
        """The number of characters that a model tells apart."""
        least = self.min_count
        return NUM_BYTES if self.unit == "byte" else sum(count >= least for count in self.counts)


class Training(NamedTuple):
    """The sizes of a training."""

    num_train: int  # characters of the training part
    shape: ModelShape
    epochs: int
    batch_size: int
    context_len: int
    begins_from_model: bool = False

    @property
    def dropout(self) -> float:
        """The dropout of the output and before the block; the embedding's is a third of it.

        It grows with epochs x weights for each character: the more of them, the more the model can memorize.
        """
        if self.begins_from_model:
            return DROPOUT_AFTER_A_MODEL
        risk = self.epochs * self.shape.num_multiplied / self.num_train
        return round(
            min(MAX_DROPOUT, DROPOUT_PER_DOUBLING * log2(max(1.0, risk / DROPOUT_FROM))), 2
        )

    @property
    def num_steps(self) -> int:
        """The number of steps, in streams: each character but the last is read once an epoch."""
        return self.epochs * ceil(ceil((self.num_train - 1) / self.batch_size) / self.context_len)

    def recipe(self) -> dict[str, object]:
        """Its parameters by dotted name."""
        muon = MUON_OF_SHORT if self.num_train <= SHORT_TRAIN_CHARS else MUON_AFTER_A_MODEL
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
            **(
                {**AFTER_A_MODEL, "train.muon.learning_rate": muon}
                if self.begins_from_model
                else {}
            ),
        }


class Proposal(NamedTuple):
    """The proposed changes to the recipe `quick` and to what all recipes share, by dotted name, and why."""

    recipe: dict[str, object]
    corpus: dict[str, object]
    reasons: list[str]


def propose(text: TextCounts, quick: Mapping[str, object], training: Training) -> Proposal:
    """The parameters of `training` for this text, as changes to `quick`, the parameters of the recipe of that name."""
    corpus: dict[str, object] = {"encode.min_count": text.min_count} if text.min_count > 1 else {}
    shape, again = training.shape, "once" if training.epochs == 1 else f"{training.epochs} times"
    layers = f" in each of {shape.num_layers} layers" if shape.num_layers > 1 else ""
    reasons = [
        f"{shape.hidden_size} units{layers}, dropout of {training.dropout:g}: {text.num_train:,} {text.unit}s to train "
        f"on, read {again}, in {training.num_steps:,} steps of {training.batch_size} x {training.context_len}"
    ]
    if text.min_count > 1:
        kept = f"of {len(text.counts):,} characters, at most {text.vocab_size:,} are kept"
        reasons.append(f"encode.min_count {text.min_count}: {kept}, rarer ones become U+FFFD")
    if text.num_chars > HUGE_CHARS:
        corpus |= {"train.validation_chars": VALIDATED, "evaluate.max_chars": EVALUATED}
        reasons.append(
            f"validation after each epoch on {VALIDATED:,} characters, evaluation on {EVALUATED:,}"
        )
    recipe = {name: value for name, value in training.recipe().items() if value != quick[name]}
    if text.num_train > LONG_TRAIN_CHARS and not training.begins_from_model:
        share = max(LEAST_SHARE, LONG_TRAIN_CHARS / text.num_train)
        recipe |= {name: round(float(str(quick[name])) * share, 3) for name in RATES}
        reasons.append(
            "Muon's rate and the weight decay are lower than those of quick, since the text is long"
        )
    return Proposal(recipe, corpus, reasons)


def training_for(text: TextCounts, initial: ModelShape | None = None) -> Training:
    """A training by the size of the text. `initial` has the sizes of the model to begin from."""
    num_train = text.num_train
    least = (
        1
        if num_train > READ_TWICE
        else RARE_EPOCHS
        if num_train < MIN_MEAN_COUNT * len(text.counts)
        else 2
    )
    epochs = min(
        MAX_EPOCHS, max(least, ceil((CHARS_SEEN_AGAIN if initial else CHARS_SEEN) / num_train))
    )
    sizes = next(sizes for up_to, sizes in WIDTHS if num_train <= up_to)
    shape = (initial or ModelShape(0, *sizes))._replace(vocab_size=text.vocab_size)
    return Training(
        num_train,
        shape,
        epochs,
        *sizes_for(num_train, epochs),
        begins_from_model=initial is not None,
    )


def sizes_for(num_train: int, epochs: int) -> tuple[int, int]:
    """The largest batch that leaves enough steps; the smallest where none does."""
    fitting = [one for one in SIZES if one[0] * one[1] < num_train]
    enough = (
        one
        for one in fitting
        if epochs * ceil(ceil((num_train - 1) / one[0]) / one[1]) >= NUM_STEPS
    )
    return next(enough, (fitting or SIZES)[-1])


def useful_epochs(num_train: int, *, begins_from_model: bool) -> int:
    """More epochs than this do not help."""
    epochs, chars_seen = (
        (USEFUL_AFTER_A_MODEL, CHARS_SEEN_AGAIN)
        if begins_from_model
        else (USEFUL_EPOCHS, CHARS_SEEN)
    )
    return min(MAX_EPOCHS, max(epochs, ceil(chars_seen / num_train)))


def training_within(
    text: TextCounts,
    seconds: float,
    step_seconds: Callable[[Training], float],
    initial: ModelShape | None = None,
) -> tuple[Training, float]:
    """The best training in this time, and its seconds: the widest model that reads enough characters."""
    sizes = (
        LARGE_SIZES
        if text.num_train > LARGE_TRAIN_CHARS
        else sizes_for(text.num_train, USEFUL_EPOCHS)
    )
    is_short = text.num_train <= SHORT_TRAIN_CHARS
    max_weights = (MAX_WEIGHTS_OF_SHORT if is_short else MAX_WEIGHTS_PER_CHAR) * text.num_train
    num_validated = VALIDATED if text.num_chars > HUGE_CHARS else text.num_chars - text.num_train
    found = list[tuple[Training, float]]()
    for hidden_size in [initial.hidden_size] if initial else HIDDEN_SIZES:
        own = ModelShape(
            0, min(hidden_size // 2, MAX_EMBEDDING), hidden_size, 1, min(hidden_size, MAX_BLOCK)
        )
        shape = (initial or own)._replace(vocab_size=text.vocab_size)
        if found and shape.num_multiplied > max_weights:
            break
        training = Training(text.num_train, shape, 1, *sizes, begins_from_model=initial is not None)
        step = step_seconds(training)
        epoch = step * (
            training.num_steps + VALIDATION_COST * num_validated / (sizes[0] * sizes[1])
        )
        epochs = min(
            int(USED * seconds / epoch),
            useful_epochs(text.num_train, begins_from_model=initial is not None),
        )
        if not epochs and not found:
            minutes = f"once takes {ceil(epoch / USED / 6) / 10:.1f} minutes here"
            raise CorpusError(
                f"--minutes {seconds / 60:g} is too short: to read {text.num_train:,} characters {minutes}"
            )
        if not found or epochs * text.num_train >= MIN_CHARS_PER_WEIGHT * shape.num_multiplied:
            found.append((training._replace(epochs=epochs), epochs * epoch))
        elif USED * seconds / epoch * text.num_train < MIN_CHARS_PER_WEIGHT * shape.num_multiplied:
            break  # a wider one reads still less
    return found[-1]


def remedy(
    params: Params,
    *,
    best_epoch: int,
    num_epochs: int,
    num_train_chars: int,
    vocab_size: int,
    num_parameters: int,
) -> str:
    """Advice for lowering the loss of a training whose validation loss was lowest after `best_epoch`."""
    begins_from_model, dropout = params.train.initial != NOTHING, params.train.dropout.output
    ways = []
    if num_train_chars < FEW_TRAIN_CHARS and not begins_from_model:
        ways.append(
            "begin from a model of a longer text in the same language (charlstm new TEXT --from MODEL)"
        )
    if best_epoch < num_epochs:
        trend = f"the loss rose after epoch {best_epoch} of {num_epochs}"
        if dropout < MAX_DROPOUT:
            ways.append(f"give it more dropout than {dropout:g} (train.dropout.output)")
        if not begins_from_model:
            ways.append("take fewer units (model.hidden_size)")
    else:
        trend = "the loss still fell in the last epoch"
        if num_epochs < useful_epochs(num_train_chars, begins_from_model=begins_from_model):
            ways.append("train longer (train.epochs)")
        if num_train_chars > num_parameters and not begins_from_model:
            ways.append("take more units (model.hidden_size)")
    if (
        params.encode.unit == "character"
        and vocab_size > NUM_BYTES
        and num_train_chars < MIN_MEAN_COUNT * vocab_size
    ):
        ways.append(f"have fewer than {vocab_size:,} characters (encode.min_count)")
    return f"{trend}: {', or '.join(ways) or 'find more text'}"

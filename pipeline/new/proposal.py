"""The recipe for a text, chosen by the text's size and alphabet or for a training time.

The constants are in `rules.py`.
"""

from collections.abc import Mapping, Sequence
from math import ceil, log2
from typing import NamedTuple

from charlstm.model.shape import ModelShape
from charlstm.text.vocabulary import NUM_BYTES, Unit
from pipeline.new import rules


class TextCounts(NamedTuple):
    """Properties of a text that determine which recipe is proposed for it."""

    num_chars: int  # bytes for a byte model
    counts: Sequence[int]  # occurrences of each distinct character
    unit: Unit = "character"

    @property
    def num_train(self) -> int:
        """The number of characters in the training part."""
        return int(self.num_chars * rules.TRAIN_FRACTION)

    @property
    def min_count(self) -> int:
        """The value of `encode.min_count`: characters with fewer occurrences become U+FFFD.

        The value is 1 if the alphabet is small enough, or if too much text would be replaced.
        """
        min_count = 1
        if self.unit == "byte":
            return min_count
        num_left = len(self.counts)
        for least in range(2, rules.MAX_MIN_COUNT + 1):
            kept = [count for count in self.counts if count >= least]
            num_replaced = sum(self.counts) - sum(kept)
            max_replaced = rules.MAX_REPLACED * sum(self.counts)
            if num_left <= rules.MAX_ALPHABET or num_replaced > max_replaced:
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
            return rules.DROPOUT_AGAIN
        risk = self.epochs * self.shape.num_multiplied / self.num_train
        dropout = rules.DROPOUT_PER_DOUBLING * log2(max(1.0, risk / rules.DROPOUT_FROM))
        return round(min(rules.MAX_DROPOUT, dropout), 2)

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
            "train.warmup_steps": min(rules.MAX_WARMUP_STEPS, self.num_steps // 8),
            "train.early_stopping_epochs": max(3, self.epochs // 6),
            "train.dropout.embedding": round(self.dropout / 3, 2),
            "train.dropout.between_layers": self.dropout,
            "train.dropout.output": self.dropout,
        }
        if self.begins_from_model:
            is_short = self.num_train <= rules.SHORT_TEXT
            recipe |= rules.AFTER_A_MODEL
            recipe["train.muon.learning_rate"] = (
                rules.MUON_AGAIN_SHORT if is_short else rules.MUON_AGAIN
            )
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
    if text.num_chars > rules.HUGE_TEXT:
        corpus |= {"train.validation_chars": rules.VALIDATED, "evaluate.max_chars": rules.EVALUATED}
        reasons.append(
            f"validation after each epoch on {rules.VALIDATED:,} characters, "
            f"evaluation on {rules.EVALUATED:,}"
        )

    recipe = {name: value for name, value in training.recipe().items() if value != quick[name]}
    if text.num_train > rules.LONG_TEXT and not training.begins_from_model:
        share = max(rules.LEAST_SHARE, rules.LONG_TEXT / text.num_train)
        for name in ("train.muon.learning_rate", "train.weight_decay"):
            recipe[name] = round(float(str(recipe.get(name, quick[name]))) * share, 3)
        reasons.append(
            "the text is long: Muon's learning rate and the weight decay are lower than in quick"
        )
    return Proposal(recipe, corpus, reasons)


def training_for(text: TextCounts, initial: ModelShape | None = None) -> Training:
    """Choose a training by the size of the text. `initial` is the shape of the initial model."""
    num_train = text.num_train
    if num_train > rules.READ_TWICE:
        least = 1
    elif num_train < rules.RARE_COUNT * len(text.counts):
        least = rules.RARE_EPOCHS
    else:
        least = 2
    chars_seen = rules.CHARS_SEEN_AGAIN if initial else rules.CHARS_SEEN
    epochs = min(rules.MAX_EPOCHS, max(least, ceil(chars_seen / num_train)))
    widths = next(widths for up_to, widths in rules.SHAPES if num_train <= up_to)
    shape = (initial or ModelShape(0, *widths))._replace(vocab_size=text.vocab_size)
    return Training(num_train, shape, epochs, *sizes_for(num_train, epochs), initial is not None)


def sizes_for(num_train: int, epochs: int) -> tuple[int, int]:
    """Return the largest (batch_size, context_len) with enough steps, or else the smallest pair."""
    fitting = [sizes for sizes in rules.BATCHES if sizes[0] * sizes[1] < num_train]
    for batch_size, context_len in fitting:
        if epochs * ceil(ceil((num_train - 1) / batch_size) / context_len) >= rules.MIN_STEPS:
            return batch_size, context_len
    return (fitting or rules.BATCHES)[-1]


def useful_epochs(num_train: int, *, begins_from_model: bool) -> int:
    """Return the number of epochs beyond which more training does not lower the loss."""
    epochs = rules.USEFUL_EPOCHS_AGAIN if begins_from_model else rules.USEFUL_EPOCHS
    chars_seen = rules.CHARS_SEEN_AGAIN if begins_from_model else rules.CHARS_SEEN
    return min(rules.MAX_EPOCHS, max(epochs, ceil(chars_seen / num_train)))

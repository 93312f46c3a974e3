"""What a training needs, from its sizes alone: memory, and a text that is long enough; and what says that it is not.

Memory, in numbers, for V characters in the vocabulary, E input features, L layers of H hidden units, a block of F
features:

    weights       V E + 4 (E H + H H + H) + (L - 1) 4 (H H + H H + H) + 2 H F + H V + V
    gradients     as many as weights that are trained: all but a one-hot input's V V
    optimizer     two moments for each (AdamW), one for the matrices that Muon moves
    averages      the best weights so far, and the moving average if there is one
    activations   of each of B T characters, what the backward pass needs: E + L (4 + 2) H + 2 F + S (H + 2 V), about;
                  where that is more than MAX_LOGITS logits, they come in pieces (`model/loss.py`)

A number has 8 bytes in fp64 and 4 otherwise. All but the activations is a lower bound: weights are also copied into
checkpoints.
"""

import math
from typing import NamedTuple

from charlstm.errors import TrainingError
from charlstm.model.shape import HEAD, LOGITS_AT_ONCE, MAX_LOGITS, ModelShape
from charlstm.params import ModelParams, TrainParams
from charlstm.text.vocabulary import Unit

STATE = "state.safetensors"  # of a checkpoint
NUM_KEPT = 2  # checkpoints: the newest, and the one before in case the newest is damaged


class MemoryNeeds(NamedTuple):
    """The memory that one process needs, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    averages: int
    activations: int

    @property
    def without_activations(self) -> int:
        """The memory that is needed at every moment: a lower bound."""
        return self.weights + self.gradients + self.optimizer + self.averages


def memory_needs(shape: ModelShape, train: TrainParams, num_rows: int) -> MemoryNeeds:
    """The memory needs of a process that holds `num_rows` rows of a batch."""
    num_samples, bytes_per_number = train.dropout.output_samples, 8 if train.precision == "fp64" else 4
    num_rows = min(train.micro_batch_size or train.batch_size, num_rows)
    hidden, weights = shape.hidden_size, shape.weights
    numbers, trained = sum(math.prod(size) for size in weights.values()), shape.num_parameters
    moved_by_muon = shape.num_multiplied - math.prod(weights[HEAD]) if train.optimizer == "muon" else 0
    per_char = shape.input_size + shape.num_layers * 6 * hidden + 2 * shape.feed_forward_size + num_samples * hidden
    num_chars = num_rows * train.context_len
    num_logits = num_samples * shape.vocab_size * num_chars
    at_once = num_logits if num_logits <= MAX_LOGITS else LOGITS_AT_ONCE
    return MemoryNeeds(
        weights=bytes_per_number * numbers,
        gradients=bytes_per_number * trained,
        optimizer=bytes_per_number * (2 * trained - moved_by_muon),
        averages=bytes_per_number * numbers * (2 if train.ema_decay > 0 else 1),
        activations=bytes_per_number * (per_char * num_chars + 2 * at_once),
    )


def check_memory(needs: MemoryNeeds, available: int) -> None:
    """Refuse what plainly cannot fit into the `available` bytes. Activations do not count, since they are an estimate.

    Raises:
        TrainingError: it names the parameters that make a model large.
    """
    if needs.without_activations <= available:
        return
    raise TrainingError(
        f"the model does not fit into memory: it needs at least {_gib(needs.without_activations)} (weights "
        f"{_gib(needs.weights)}, gradients {_gib(needs.gradients)}, optimizer {_gib(needs.optimizer)}, averages "
        f"{_gib(needs.averages)}) and about {_gib(needs.activations)} for a step; {_gib(available)} are available to "
        "each process: lower model.hidden_size, model.num_layers, model.embedding_size or model.feed_forward_size"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether it was raised for want of memory. On a CPU torch has a plain RuntimeError for it."""
    import torch  # here, so that the launcher can estimate without its second of imports

    words = ("allocate memory", "bad_alloc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"


# Sizes, how many steps an epoch has, and whether a text is long enough for one.


def shape_of(model: ModelParams, vocab_size: int) -> ModelShape:
    """The sizes of a model of so many characters."""
    return ModelShape(vocab_size, model.embedding_size, model.hidden_size, model.num_layers, model.feed_forward_size)


def steps_per_epoch(num_ids: int, train: TrainParams, unit: Unit) -> int:
    """Optimizer updates in an epoch over `num_ids` characters, or bytes.

    Raises:
        TrainingError: there are too few characters for a single one.
    """
    num_rows = train.batch_size
    if train.batching == "streams":
        return stream_steps(num_ids, num_rows, train.context_len, unit)
    return -(-num_windows(num_ids, num_rows, train.context_len, train.window_stride, unit) // num_rows)


def stream_steps(num_ids: int, batch_size: int, context_len: int, unit: Unit = "character") -> int:
    """Steps of the longest of `batch_size` streams.

    Raises:
        TrainingError: there are too few characters.
    """
    num_pairs = num_ids - 1
    if num_pairs < batch_size * context_len:
        raise TrainingError(
            f"the training part has {num_ids} {unit}s, too few for one step of train.batch_size "
            f"{batch_size} x train.context_len {context_len} = {batch_size * context_len}; "
            f"{_what_fits(num_pairs, batch_size, context_len)}"
        )
    longest = -(-num_pairs // batch_size)
    return -(-longest // context_len)


def num_windows(num_ids: int, batch_size: int, context_len: int, stride: int, unit: Unit = "character") -> int:
    """Windows of `context_len` characters and the one to guess, at every `stride` characters.

    Raises:
        TrainingError: they do not fill a batch.
    """
    found = len(range(0, num_ids - context_len, stride))
    if found < batch_size:
        raise TrainingError(
            f"the training part has {num_ids} {unit}s: {found} windows of train.context_len "
            f"{context_len}, too few for a train.batch_size of {batch_size}; "
            f"lower one of them or train.window_stride ({stride})"
        )
    return found


def check_warmup(warmup_steps: int, num_steps: int, epochs: int) -> None:
    """Check that the learning rate has steps left to fall.

    Raises:
        TrainingError: it has not.
    """
    if warmup_steps >= num_steps:
        raise TrainingError(
            f"train.warmup_steps is {warmup_steps}, but this text gives only {num_steps} steps "
            f"(train.epochs {epochs}): lower it, train.batch_size or train.context_len, or raise train.epochs"
        )


def _what_fits(num_pairs: int, batch_size: int, context_len: int) -> str:
    options = {"batch_size": num_pairs // context_len, "context_len": num_pairs // batch_size}
    fitting = [f"a {name} of {value}" for name, value in options.items() if value > 0]
    return f"{' or '.join(fitting)} would fit" if fitting else "take a longer text, or lower both"

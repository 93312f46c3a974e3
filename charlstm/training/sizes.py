"""The sizes of a model and the number of steps in an epoch, checked against the text's length."""

from charlstm.errors import TrainingError
from charlstm.model.shape import ModelShape
from charlstm.params import ModelParams, TrainParams
from charlstm.text.vocabulary import Unit


def shape_of(model: ModelParams, vocab_size: int) -> ModelShape:
    """Return the sizes of a model with these parameters and this vocabulary size."""
    return ModelShape(
        vocab_size,
        model.embedding_size,
        model.hidden_size,
        model.num_layers,
        model.feed_forward_size,
    )


def steps_per_epoch(num_ids: int, train: TrainParams, unit: Unit) -> int:
    """Return the number of optimizer updates in an epoch over `num_ids` characters or bytes.

    Raises:
        TrainingError: the text is too short for a single update.
    """
    batch_size = train.batch_size
    if train.batching == "streams":
        return stream_steps(num_ids, batch_size, train.context_len, unit)
    windows = num_windows(num_ids, batch_size, train.context_len, train.window_stride, unit)
    return -(-windows // batch_size)


def stream_steps(num_ids: int, batch_size: int, context_len: int, unit: Unit) -> int:
    """Return the number of steps in an epoch over `batch_size` streams.

    Raises:
        TrainingError: the text is too short for a single step.
    """
    num_pairs = num_ids - 1
    if num_pairs < batch_size * context_len:
        raise TrainingError(
            f"the training part has {num_ids} {unit}s, but one step needs more than "
            f"{batch_size * context_len} {unit}s (train.batch_size {batch_size} x "
            f"train.context_len {context_len}): use a longer text, or lower one of them"
        )
    longest_stream = -(-num_pairs // batch_size)
    return -(-longest_stream // context_len)


def num_windows(num_ids: int, batch_size: int, context_len: int, stride: int, unit: Unit) -> int:
    """Return the number of windows of `context_len` inputs, one starting every `stride` ids.

    The id after a window is the target of its last input, so the text must contain this id, too.

    Raises:
        TrainingError: the windows do not fill a batch.
    """
    found = len(range(0, num_ids - context_len, stride))
    if found < batch_size:
        raise TrainingError(
            f"the training part has {num_ids} {unit}s, which give only {found} windows of "
            f"train.context_len {context_len}, but train.batch_size is {batch_size}; "
            f"lower train.context_len, train.batch_size or train.window_stride ({stride})"
        )
    return found


def check_warmup(warmup_steps: int, num_steps: int, epochs: int) -> None:
    """Raise TrainingError if no steps remain after the warm-up."""
    if warmup_steps >= num_steps:
        raise TrainingError(
            f"train.warmup_steps is {warmup_steps}, but training takes only {num_steps} steps "
            f"(train.epochs is {epochs}); lower train.warmup_steps, train.batch_size or "
            "train.context_len, or raise train.epochs"
        )

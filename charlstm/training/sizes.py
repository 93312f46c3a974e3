"""How many steps an epoch has and how large a model is, from sizes alone; and whether a text is long enough."""

from charlstm.errors import TrainingError
from charlstm.model.shape import ModelShape
from charlstm.params import ModelParams, TrainParams
from charlstm.text.vocabulary import Unit


def shape_of(model: ModelParams, vocab_size: int) -> ModelShape:
    """The sizes of a model with these parameters."""
    return ModelShape(
        vocab_size,
        model.embedding_size,
        model.hidden_size,
        model.num_layers,
        model.feed_forward_size,
    )


def steps_per_epoch(num_ids: int, train: TrainParams, unit: Unit) -> int:
    """Optimizer updates in an epoch over `num_ids` characters, or bytes.

    Raises:
        TrainingError: there are too few characters for a single one.
    """
    num_rows = train.batch_size
    if train.batching == "streams":
        return stream_steps(num_ids, num_rows, train.context_len, unit)
    return -(
        -num_windows(num_ids, num_rows, train.context_len, train.window_stride, unit) // num_rows
    )


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


def num_windows(
    num_ids: int, batch_size: int, context_len: int, stride: int, unit: Unit = "character"
) -> int:
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

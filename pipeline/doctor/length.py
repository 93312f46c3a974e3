"""Whether the texts are long enough: for a batch, a validation part and the warm-up, and for what teachers read."""

from collections.abc import Iterator

from charlstm.errors import CharlstmError
from charlstm.params import Params
from charlstm.text.soft_text import check_prompts, check_soft_text
from charlstm.training.epoch_length import check_warmup, steps_per_epoch
from pipeline.doctor.finding import Finding, error, errors_of
from pipeline.doctor.text_there import Encoded

MIN_PART = 2  # characters: one to read, one to guess


def check(params: Params, encoded: Encoded | None, num_bytes: int | None) -> Iterator[Finding]:
    """Of the encoded text exactly; else of at most a character a byte, so nothing is refused that might do."""
    if encoded is not None:
        num_train, about = encoded.num_train, ""
    elif num_bytes and (held_out := params.split.val_fraction + params.split.test_fraction) < 1:
        num_train, about = int(num_bytes * (1 - held_out)), f"the text has {num_bytes} bytes: "
        if min(num_train, num_bytes - num_train) < MIN_PART:
            yield error(
                f"{about}a training and a validation part of at least {MIN_PART} characters each are needed: "
                f"take a longer text or another split.val_fraction"
            )
            return
    else:
        return
    train = params.train
    try:
        steps = steps_per_epoch(
            num_train,
            train.batching,
            batch_size=train.corpus_rows,
            context_len=train.context_len,
            window_stride=train.window_stride,
            unit=params.encode.unit,
        )
        check_warmup(train.warmup_steps, train.epochs * steps, train.epochs)
    except CharlstmError as refusal:
        taught = train.distillation.rows
        yield error(f"{about}{refusal}{f' (not counting the {taught} of train.distillation.rows)' if taught else ''}")
    yield from _teaching(params, num_train)


def _teaching(params: Params, num_train: int) -> Iterator[Finding]:
    """What would be noticed after the teachers' training, since only their text and its reader need it."""
    teachers, train = params.teachers, params.train
    if not teachers.recipes:
        return
    yield from errors_of(lambda: check_prompts(teachers.prompt_chars, num_train))
    if train.distillation.rows and teachers.parts:
        num_chars = len(teachers.parts) * teachers.chars_of_part
        yield from errors_of(lambda: check_soft_text(num_chars, train.distillation.rows, train.context_len))

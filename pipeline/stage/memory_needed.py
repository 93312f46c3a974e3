"""The memory that these parameters need: for the train stage, and for those who ask before it."""

from charlstm.model.shape import ModelShape
from charlstm.params import TrainParams
from charlstm.training.needs import MemoryNeeds, memory_needs, student_rows


def memory_needed(shape: ModelShape, train: TrainParams, num_rows: int) -> MemoryNeeds:
    """The memory needs of a process that holds `num_rows` rows of a batch."""
    num_rows = min(train.micro_batch_size or train.batch_size, num_rows)
    if train.distillation.rows:
        num_rows = student_rows(num_rows, shape.vocab_size, train.context_len, train.dropout.output_samples)
    return memory_needs(
        shape,
        has_muon=train.optimizer == "muon",
        has_moving_average=train.ema_decay > 0,
        bytes_per_number=8 if train.precision == "fp64" else 4,
        num_rows=num_rows,
        context_len=train.context_len,
        num_output_samples=train.dropout.output_samples,
    )

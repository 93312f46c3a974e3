"""Functions that create the parts of a learner from the parameters."""

import torch

from charlstm.model.char_lstm import CharLSTM
from charlstm.optimization.optimizers import make_optimizers
from charlstm.params import TrainParams
from charlstm.text.encoded import EncodedText
from charlstm.training.batches import Batches, StreamBatches, WindowBatches
from charlstm.training.processes import Processes


def batches_of(text: EncodedText, params: TrainParams, rows: slice) -> Batches:
    """Create the batch source that `params.batching` selects, for this process's `rows`.

    Raises:
        TrainingError: the text is too short.
    """
    sizes = {
        "batch_size": params.batch_size,
        "context_len": params.context_len,
        "seed": params.seed,
    }
    if params.batching == "streams":
        return StreamBatches(text, **sizes, rows=rows)
    is_sliding = params.batching == "sliding_windows"
    return WindowBatches(
        text, **sizes, rows=rows, stride=params.window_stride, is_sliding=is_sliding
    )


def optimizers_of(
    model: CharLSTM, params: TrainParams, processes: Processes
) -> list[torch.optim.Optimizer]:
    """Create the optimizers that `params` selects. The processes share the work of Muon."""
    return make_optimizers(
        model,
        has_muon=params.optimizer == "muon",
        learning_rate=params.learning_rate,
        betas=(params.adam_beta1, params.adam_beta2),
        weight_decay=params.weight_decay,
        muon_learning_rate=params.muon.learning_rate,
        muon_momentum=params.muon.momentum,
        muon_dtype=torch.bfloat16 if processes.is_bf16 else model.head.weight.dtype,
        peers=processes,
    )

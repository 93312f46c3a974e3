"""What a learner is made of, from the parameters: batches, a fresh model, optimizers."""

import torch

from charlstm.errors import TrainingError
from charlstm.model.char_lstm import CharLSTM, ModelShape
from charlstm.model.initialization import initial_weights
from charlstm.optimization.optimizers import make_optimizers
from charlstm.params import ModelParams, TrainParams
from charlstm.seeds import torch_generator
from charlstm.text.soft_text import SoftText
from charlstm.text.units import Unit
from charlstm.text.vocabulary import Ids
from charlstm.training.batches import Batches, StreamBatches, WindowBatches
from charlstm.training.distillation import DistillationBatches
from charlstm.training.epoch_length import check_warmup
from charlstm.training.processes import Processes


def batches_of(
    ids: Ids,
    params: TrainParams,
    *,
    rank: int,
    world_size: int,
    unit: Unit = "character",
    separator: Ids | None = None,
    soft_text: SoftText | None = None,
) -> Batches:
    """The batch source that `params.batching` names, for one process; each document begins with `separator`.

    Raises:
        TrainingError: the text is too short, there are more processes than rows, or a student has no text of teachers.
    """
    sizes = {"batch_size": params.batch_size, "context_len": params.context_len, "seed": params.seed}
    process = {"rank": rank, "world_size": world_size}
    if num_soft_rows := params.distillation.rows:
        if soft_text is None:
            raise TrainingError(f"distillation.rows is {num_soft_rows}, but there is no text that teachers wrote")
        return DistillationBatches(ids, soft_text, num_soft_rows, **sizes, **process, unit=unit, separator=separator)
    if params.batching == "streams":
        return StreamBatches(ids, **sizes, **process, unit=unit, separator=separator)
    is_sliding = params.batching == "sliding_windows"
    stride = params.window_stride
    return WindowBatches(ids, **sizes, **process, unit=unit, separator=separator, stride=stride, is_sliding=is_sliding)


def num_steps_of(batches: Batches, params: TrainParams) -> int:
    """Optimizer updates in the whole training.

    Raises:
        TrainingError: they are fewer than the schedule needs.
    """
    num_steps = params.epochs * batches.steps_per_epoch
    check_warmup(params.warmup_steps, num_steps, params.epochs)
    return num_steps


def shape_of(vocab_size: int, params: ModelParams) -> ModelShape:
    """The model's sizes."""
    return ModelShape(
        vocab_size, params.embedding_size, params.hidden_size, params.num_layers, params.feed_forward_size
    )


def fresh_model(shape: ModelShape, params: ModelParams, seed: int) -> CharLSTM:
    """A model before its first step, in fp32 on the CPU."""
    model = CharLSTM(shape, params.implementation)
    weights = initial_weights(
        shape,
        params.initialization,
        forget_gate_bias=params.forget_gate_bias,
        generator=torch_generator(seed, "initial weights"),
    )
    model.load_state_dict(weights)
    return model


def optimizers_of(model: CharLSTM, params: TrainParams, processes: Processes) -> list[torch.optim.Optimizer]:
    """One optimizer for each group of weights, whose work the processes share."""
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

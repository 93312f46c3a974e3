"""What is trained, and what one step does to it: weights, their average, the optimizers, the carried state.

What a step computes depends on (seed, epoch, step) alone. The global batch, the dropout masks and the learning rate are
the same for 1 process and for N; each process takes its rows of them.

A gradient is a sum over characters, divided by the count of a full batch. So each character weighs the same, also in
the shorter last step of an epoch, and however rows are shared out. Of a model of bytes, each byte does.
Shapes: B rows of this process, T time steps, V vocabulary.
"""

import logging
import math
from contextlib import nullcontext
from typing import NamedTuple, cast

import torch
from torch import Tensor

from charlstm.errors import TrainingError
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.dropout import DropoutMasks, DropoutRates, draw_masks
from charlstm.model.gates import LSTMState
from charlstm.model.initial_model import InitialWeights
from charlstm.model.initialization import initial_weights
from charlstm.model.loss import SummedLoss
from charlstm.model.resets import Resets
from charlstm.optimization.moving_average import MovingAverage
from charlstm.optimization.schedule import learning_rate
from charlstm.params import ModelParams, TrainParams
from charlstm.seeds import torch_generator
from charlstm.text.encoded import EncodedText
from charlstm.text.encoded_files import check_fit
from charlstm.training.batches import Batch, rows_of
from charlstm.training.factories import batches_of, optimizers_of
from charlstm.training.processes import Processes
from charlstm.training.progress import ADVICE, describe_nonfinite
from charlstm.training.sizes import check_warmup, shape_of

log = logging.getLogger(__name__)


MAX_SKIPPED_STEPS = 10  # in a row


class Step(NamedTuple):
    """The results of a step: scalars that may still lie on the device."""

    rate: float
    nats: Tensor  # summed over this process's rows
    gradient_norm: Tensor  # of the global gradient, before clipping


class Learner:
    """One process's part of the training."""

    def __init__(
        self,
        text: EncodedText,
        vocab_size: int,
        model: ModelParams,
        params: TrainParams,
        processes: Processes,
        initial: InitialWeights | None = None,
    ) -> None:
        self.params, self.processes = params, processes
        rows = rows_of(processes.rank, processes.world_size, params.batch_size)
        self.batches, self.num_rows = batches_of(text, params, rows), rows.stop - rows.start
        self.num_steps = params.epochs * self.batches.steps_per_epoch
        check_warmup(params.warmup_steps, self.num_steps, params.epochs)
        self.shape = shape_of(model, vocab_size)
        self.dtype = torch.float64 if params.precision == "fp64" else torch.float32
        fresh = CharLSTM(self.shape, model.implementation)
        draws = torch_generator(params.seed, "initial weights")
        bias = model.forget_gate_bias
        weights = initial_weights(
            self.shape, model.initialization, forget_gate_bias=bias, generator=draws
        )
        fresh.load_state_dict(initial.over(weights, self.shape) if initial else weights)
        self.model = fresh.to(processes.device, self.dtype)
        self.average = MovingAverage(self.model, params.ema_decay)
        optimizers = optimizers_of(self.model, params, processes)
        self.loss, self.optimizers = processes.distribute(SummedLoss(self.model), optimizers)
        self.num_skipped = 0
        self.start_epoch()
        self._warm_up()

    @property
    def averaged(self) -> CharLSTM:
        """The model with the averaged weights, which is what is evaluated and kept."""
        return cast(CharLSTM, self.average.module)

    def start_epoch(self) -> None:
        """Reset the carried state to zero, as each epoch begins."""
        self.state = self.model.zero_state(self.num_rows)

    def take_step(self, step: int, epoch: int, index: int) -> Step | None:
        """Optimizer update number `step`, from 0, on batch `index` of the epoch; None if it was skipped.

        Raises:
            TrainingError: too many steps in a row had to be skipped.
            EncodedError: an id of the batch stands for no character.
        """
        batch = self.batches.batch(epoch, index)
        for ids_BT in (batch.inputs_BT, batch.targets_BT):
            check_fit(ids_BT.numpy(), self.shape.vocab_size)
        rate = self.set_learning_rate(step)
        nats = self.add_gradients(step, batch)
        limit = (
            self.params.gradient_clip_norm
            if self.params.gradient_clip_norm is not None
            else math.inf
        )
        taken = Step(rate, nats, self.processes.clip_gradients(self.model, limit))
        if is_skipped := self.params.on_nonfinite == "skip" and not math.isfinite(
            taken.gradient_norm
        ):
            self.skip_step(step, taken)
        else:
            self.num_skipped = 0
            for optimizer in self.optimizers:
                optimizer.step()
            self.average.update(self.model)
        self.model.zero_grad()
        return None if is_skipped else taken

    def add_gradients(self, step: int, batch: Batch) -> Tensor:
        """Forward and backward, some rows at a time; this process's summed loss in nats."""
        device, starts_BT = self.processes.device, batch.starts_BT
        inputs_BT, targets_BT = (
            ids.to(device, non_blocking=True) for ids in (batch.inputs_BT, batch.targets_BT)
        )
        # DDP averages over processes, but the loss is a sum over all of them that is divided once.
        scale = self.processes.world_size / (self.params.batch_size * self.params.context_len)
        start, masks = self.start_state(step), self.masks(step, inputs_BT.shape[1])
        size = self.params.micro_batch_size or self.num_rows
        losses, ends = [], []
        for first in range(0, self.num_rows, size):
            rows = slice(first, min(first + size, self.num_rows))
            is_last = rows.stop == self.num_rows
            with nullcontext() if is_last else self.processes.no_sync(self.loss):
                resets = Resets.of(None if starts_BT is None else starts_BT[rows], device)
                nats, end = self.loss(
                    inputs_BT[rows], start.rows(rows), masks.rows(rows), resets, targets_BT[rows]
                )
                self.processes.backward(nats * scale)
                losses.append(nats.detach())
            ends.append(end.detach())
        self.state = LSTMState(*(torch.cat(parts, dim=1) for parts in zip(*ends, strict=True)))
        return torch.stack(losses).sum()

    def skip_step(self, step: int, taken: Step) -> None:
        """Leave the weights as they are, with a warning. The gradient is global, so every process skips."""
        nats_N = self.processes.gather(taken.nats).tolist()
        trouble = describe_nonfinite(step + 1, taken.rate, nats_N, float(taken.gradient_norm))
        self.num_skipped += 1
        if self.num_skipped > MAX_SKIPPED_STEPS:
            raise TrainingError(
                f"{trouble}, after {MAX_SKIPPED_STEPS} skipped steps in a row; {ADVICE}"
            )
        if self.processes.is_main:
            log.warning("%s; the step is skipped", trouble)
        self.state = LSTMState(*(part.nan_to_num(0.0, 0.0, 0.0) for part in self.state))

    def set_learning_rate(self, step: int) -> float:
        """Follow the schedule in all optimizers; AdamW's rate, which is recorded."""
        fraction = learning_rate(
            step,
            warmup_steps=self.params.warmup_steps,
            num_steps=self.num_steps,
            final_fraction=self.params.final_learning_rate_fraction,
        )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = fraction * group["peak"]
        return fraction * self.params.learning_rate

    def start_state(self, step: int) -> LSTMState:
        """The carried state, with some rows reset to zero so that the model also learns to start without context.

        Melis et al. 2018 reset in 1 % of the steps; the windowed protocols start without context far more often.
        """
        if not self.batches.carries_state:
            return self.model.zero_state(self.num_rows)
        if self.params.state_reset_probability == 0:
            return self.state
        draws = torch.rand(self.params.batch_size, generator=self._generator("state reset", step))
        keep_B = (draws >= self.params.state_reset_probability)[self.batches.rows, None]
        keep_B = keep_B.to(self.processes.device, non_blocking=True).to(self.dtype)
        return LSTMState(self.state.hidden * keep_B, self.state.cell * keep_B)

    def masks(self, step: int, num_time_steps: int) -> DropoutMasks:
        """This process's rows of the step's dropout masks."""
        dropout = self.params.dropout
        return draw_masks(
            self._generator("dropout", step),
            DropoutRates(dropout.embedding, dropout.between_layers, dropout.output),
            self.shape,
            num_steps=1 if dropout.style == "locked" else num_time_steps,
            batch_size=self.params.batch_size,
            rows=self.batches.rows,
            num_output_samples=dropout.output_samples,
            dtype=self.dtype,
            device=self.processes.device,
        )

    def _generator(self, purpose: str, step: int) -> torch.Generator:
        return torch_generator(self.params.seed, purpose, step)

    def _warm_up(self) -> None:
        """One pass of one row that changes nothing, after which DDP has its final order of gradients.

        DDP sorts them after its first backward pass. With three or more processes the order decides which numbers are
        added first. A resumed training must add in the same order as one that was never interrupted.
        """
        if self.processes.world_size > 1:
            ids_BT = torch.zeros(
                (1, self.params.context_len), dtype=torch.int64, device=self.processes.device
            )
            nats, _ = self.loss(ids_BT, self.state.rows(slice(1)), None, None, ids_BT)
            self.processes.backward(nats * 0.0)
            self.model.zero_grad()

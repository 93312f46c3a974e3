"""The learner: weights, their average, optimizers and LSTM state, updated one step at a time.

The batch and the random numbers of a step depend only on (seed, epoch, step). They and the learning
rate do not depend on the number of processes. Each process takes its rows of the batch and masks.

A gradient is a sum over ids, divided by the number of ids in a full batch. So each character has
the same weight (in a byte model, each byte). This is also true in the shorter last step of an epoch
and if processes hold different numbers of rows.

Shapes: B rows of this process, T time steps, N processes.
"""

import logging
import math
from contextlib import nullcontext

import torch
from torch import Tensor

from charlstm.errors import TrainingError
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.dropout import DropoutMasks, DropoutRates, draw_masks
from charlstm.model.gates import LSTMState
from charlstm.model.initialization import InitialWeights, initial_weights
from charlstm.model.loss import SummedLoss
from charlstm.optimization.optimizers import MovingAverage, learning_rate, make_optimizers
from charlstm.params import ModelParams, TrainParams
from charlstm.seeds import torch_generator
from charlstm.text.encoded import EncodedText
from charlstm.training.batches import (
    Batch,
    Batches,
    StreamBatches,
    WindowBatches,
    rows_of,
)
from charlstm.training.processes import Processes
from charlstm.training.progress import ADVICE, Step, describe_nonfinite
from charlstm.training.sizes import check_warmup, shape_of

log = logging.getLogger(__name__)

MAX_SKIPPED_STEPS = 10  # maximum number of skipped steps in a row


class Learner:
    """The part of a training that one process holds: weights, optimizers and LSTM state."""

    def __init__(
        self,
        text: EncodedText,
        vocab_size: int,
        model: ModelParams,
        params: TrainParams,
        processes: Processes,
        initial: InitialWeights | None = None,
    ) -> None:
        self.params = params
        self.processes = processes
        rows = rows_of(processes.rank, processes.world_size, params.batch_size)
        self.num_rows = rows.stop - rows.start
        self.batches = _make_batches(text, params, rows)
        self.num_steps = params.epochs * self.batches.steps_per_epoch
        check_warmup(params.warmup_steps, self.num_steps, params.epochs)

        self.shape = shape_of(model, vocab_size)
        self.dtype = torch.float64 if params.precision == "fp64" else torch.float32
        weights = initial_weights(
            self.shape,
            model.initialization,
            forget_gate_bias=model.forget_gate_bias,
            generator=torch_generator(params.seed, "initial weights"),
        )
        fresh = CharLSTM(self.shape, model.implementation)
        fresh.load_state_dict(initial.over(weights, self.shape) if initial else weights)
        self.model = fresh.to(processes.device, self.dtype)
        self.average = MovingAverage(self.model, params.ema_decay)
        self.loss = processes.distribute(SummedLoss(self.model))
        self.optimizers = make_optimizers(
            self.model,
            has_muon=params.optimizer == "muon",
            learning_rate=params.learning_rate,
            betas=(params.adam_beta1, params.adam_beta2),
            weight_decay=params.weight_decay,
            muon_learning_rate=params.muon.learning_rate,
            muon_momentum=params.muon.momentum,
            muon_dtype=torch.bfloat16 if processes.is_bf16 else self.dtype,
            peers=processes,
        )
        self.num_skipped = 0
        self.start_epoch()
        self._fix_order_of_gradients()

    def start_epoch(self) -> None:
        """Reset the LSTM state to zero at the start of an epoch."""
        self.state = self.model.zero_state(self.num_rows)

    def take_step(self, step: int, epoch: int, index: int) -> Step | None:
        """Update the weights in step `step` (counted from 0) with batch `index` of the epoch.

        Return None if the step was skipped. Collective: every process must call this.

        Raises:
            TrainingError: too many steps in a row were skipped.
        """
        batch = self.batches.batch(epoch, index)
        rate = self._set_learning_rate(step)
        nats = self._add_gradients(step, batch)
        norm = self.processes.clip_gradients(self.model, self.params.gradient_clip_norm or math.inf)
        taken = Step(step + 1, rate, nats, norm)

        # The norm is read only if needed, because reading it waits for the device.
        is_skipped = self.params.on_nonfinite == "skip" and not math.isfinite(norm)
        if is_skipped:
            self._skip_step(taken)
        else:
            self.num_skipped = 0
            for optimizer in self.optimizers:
                optimizer.step()
            self.average.update(self.model)
        self.model.zero_grad()
        return None if is_skipped else taken

    def _set_learning_rate(self, step: int) -> float:
        """Set the scheduled learning rate in all optimizers. Return the learning rate of AdamW."""
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

    def _add_gradients(self, step: int, batch: Batch) -> Tensor:
        """Run the forward and backward passes. Return this process's summed loss in nats."""
        device = self.processes.device
        inputs_BT, targets_BT = batch.ids_on(device)
        start = self._start_state(step)
        masks = self._masks(step, inputs_BT.shape[1])
        # DDP averages gradients over processes. The factor `world_size` turns the mean into a sum.
        scale = self.processes.world_size / (self.params.batch_size * self.params.context_len)

        micro_batch_size = self.params.micro_batch_size or self.num_rows
        losses = []
        ends = []
        for first in range(0, self.num_rows, micro_batch_size):
            rows = slice(first, min(first + micro_batch_size, self.num_rows))
            # Only the last backward pass sends gradients to the other processes.
            is_last = rows.stop == self.num_rows
            with nullcontext() if is_last else self.processes.no_sync(self.loss):
                nats, end = self.loss(
                    inputs_BT[rows], start.rows(rows), masks.rows(rows), targets_BT[rows]
                )
                self.processes.backward(nats * scale)
            losses.append(nats.detach())
            ends.append(end.detach())
        self.state = LSTMState(*(torch.cat(parts, dim=1) for parts in zip(*ends, strict=True)))
        return torch.stack(losses).sum()

    def _start_state(self, step: int) -> LSTMState:
        """Return the carried state, with randomly chosen rows reset to zero.

        Resets teach the model to start without context. Melis et al. 2018 reset in 1 % of the
        steps. The windowed protocols start without context far more often.
        """
        if not self.batches.carries_state:
            return self.model.zero_state(self.num_rows)
        if self.params.state_reset_probability == 0:
            return self.state
        generator = torch_generator(self.params.seed, "state reset", step)
        draws = torch.rand(self.params.batch_size, generator=generator)
        keep_B = (draws >= self.params.state_reset_probability)[self.batches.rows, None]
        keep_B = keep_B.to(self.processes.device, non_blocking=True).to(self.dtype)
        return LSTMState(self.state.hidden * keep_B, self.state.cell * keep_B)

    def _masks(self, step: int, num_time_steps: int) -> DropoutMasks:
        """Return the dropout masks of a step, for this process's rows."""
        dropout = self.params.dropout
        return draw_masks(
            self.params.seed,
            step,
            DropoutRates(dropout.embedding, dropout.between_layers, dropout.output),
            self.shape,
            num_steps=1 if dropout.style == "locked" else num_time_steps,
            batch_size=self.params.batch_size,
            rows=self.batches.rows,
            num_output_samples=dropout.output_samples,
            dtype=self.dtype,
            device=self.processes.device,
        )

    def _skip_step(self, taken: Step) -> None:
        """Log a warning about a skipped step, and remove non-finite values from the LSTM state.

        The gradient is global, so every process skips the same step.
        """
        nats_N = self.processes.gather(taken.nats).tolist()
        fault = describe_nonfinite(taken.number, taken.rate, nats_N, float(taken.gradient_norm))
        self.num_skipped += 1
        if self.num_skipped > MAX_SKIPPED_STEPS:
            raise TrainingError(
                f"{fault}, after {MAX_SKIPPED_STEPS} skipped steps in a row; {ADVICE}"
            )
        if self.processes.is_main:
            log.warning("%s; the step is skipped", fault)
        # A non-finite state would make the next step non-finite, too.
        self.state = LSTMState(*(part.nan_to_num(0.0, 0.0, 0.0) for part in self.state))

    def _fix_order_of_gradients(self) -> None:
        """Run a backward pass that changes no weights, so that DDP settles on its gradient order.

        DDP sorts gradients after its first backward pass. With three or more processes, this order
        decides which numbers are added first. A resumed training must add gradients in the same
        order as an uninterrupted training.
        """
        if self.processes.world_size > 1:
            ids_BT = torch.zeros(
                (1, self.params.context_len), dtype=torch.int64, device=self.processes.device
            )
            nats, _ = self.loss(ids_BT, self.state.rows(slice(1)), None, ids_BT)
            self.processes.backward(nats * 0.0)
            self.model.zero_grad()


def _make_batches(text: EncodedText, params: TrainParams, rows: slice) -> Batches:
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

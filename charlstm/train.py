"""The training loop: truncated back-propagation through time over one or many processes.

The only library module that knows Accelerate. What a step computes depends on (seed, epoch, step) alone: the global
batch, the dropout masks and the learning rate are the same for 1 process and for N; each takes its rows of them.

Gradients are sums over characters divided by a full batch's count, so each character weighs the same, also in an
epoch's last, shorter step, and however the rows are shared out.
Shapes: B rows of this process, T time steps, V vocabulary.
"""

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
from accelerate import Accelerator as Accelerator  # the pipeline names the type, and only that
from torch import Tensor

from charlstm.average import moving_average
from charlstm.batches import Batches, StreamBatches, WindowBatches
from charlstm.dropout import DropoutMasks, DropoutRates, draw_masks
from charlstm.errors import TrainingError
from charlstm.evaluate import windowed
from charlstm.gates import LSTMState
from charlstm.history import EpochRow, StepRow, TextRow
from charlstm.loss import LossSum, summed_nats
from charlstm.meter import StepMeter
from charlstm.model import CharLSTM, ModelShape, initial_weights
from charlstm.observer import Observer, Plan
from charlstm.params import ModelParams, TrainParams
from charlstm.precision import multiplies_bf16
from charlstm.sample import SamplingRule, check_prompts, generate
from charlstm.schedule import learning_rate
from charlstm.seeds import torch_generator
from charlstm.vocab import Ids, Vocab


class Data(NamedTuple):
    """Encoded training and validation parts, and the vocabulary that decodes them."""

    train_ids: Ids
    val_ids: Ids
    vocab: Vocab


class Result(NamedTuple):
    """The best weights and the whole history."""

    weights: dict[str, Tensor]
    shape: ModelShape
    epochs: list[EpochRow]
    steps: list[StepRow]
    texts: list[TextRow]
    best: EpochRow
    num_parameters: int


def launch(precision: str) -> Accelerator:
    """The processes and the device that the launcher decided on; `precision` is `train.precision`.

    `auto` is bf16 where the hardware multiplies it natively, else fp32.
    """
    mixed = "bf16" if precision == "bf16" or (precision == "auto" and multiplies_bf16()) else "no"
    # Accelerate joins the processes of torchrun on CPUs only if it is told that there is nothing else.
    return Accelerator(mixed_precision=mixed, cpu=not torch.accelerator.is_available())


def fit(
    data: Data, model: ModelParams, params: TrainParams, accelerator: Accelerator, observers: Sequence[Observer]
) -> Result:
    """Train until `params.epochs` or early stopping; every process calls this and gets the same result.

    Observers and texts are process 0's: `observers` and the result's `texts` are empty on all others.

    Raises:
        TrainingError: the settings cannot train on this text, or the loss is not finite.
        VocabularyError: a prompt of `params.text_prompts` has characters that training never saw.
    """
    check_prompts(data.vocab, params.text_prompts)
    training = _Training(data, model, params, accelerator)
    for observer in observers:
        observer.on_start(training.plan())
    epochs: list[EpochRow] = []
    texts: list[TextRow] = []
    best, best_weights = None, training.weights()
    for epoch in range(1, params.epochs + 1):
        started = time.perf_counter()
        mean_loss = training.run_epoch(epoch, observers)
        train_seconds = time.perf_counter() - started
        epochs.append(EpochRow(epoch, training.step, mean_loss, training.validate()))
        if not math.isfinite(epochs[-1].val_nats_per_char):
            raise TrainingError(f"the validation loss is not finite after epoch {epoch}; lower train.learning_rate")
        if best is None or epochs[-1].val_nats_per_char < best.val_nats_per_char:
            best, best_weights = epochs[-1], training.weights()
        new_texts = training.write_texts(epoch) if accelerator.is_main_process else []
        texts.extend(new_texts)
        for observer in observers:
            observer.on_epoch(epochs[-1], new_texts, train_seconds)
        if params.early_stopping_epochs and epoch - best.epoch >= params.early_stopping_epochs:
            break
    assert best is not None  # params.epochs > 0
    return Result(best_weights, training.shape, epochs, training.rows, texts, best, training.evaluated.num_parameters())


class _Training:
    """The state of one training run and the operations on it."""

    def __init__(self, data: Data, model: ModelParams, params: TrainParams, accelerator: Accelerator) -> None:
        self.data, self.params, self.accelerator = data, params, accelerator
        make = partial(WindowBatches, stride=params.window_stride) if params.batching == "windows" else StreamBatches
        self.batches: Batches = make(
            data.train_ids,
            batch_size=params.batch_size,
            context_len=params.context_len,
            seed=params.seed,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
        )
        self.num_steps = params.epochs * self.batches.steps_per_epoch
        if params.warmup_steps >= self.num_steps:
            raise TrainingError(
                f"train.warmup_steps is {params.warmup_steps}, but this text gives only {self.num_steps} steps in "
                f"{params.epochs} epochs: lower it, train.batch_size or train.context_len, or raise train.epochs"
            )
        self.num_rows = self.batches.rows.stop - self.batches.rows.start
        self.shape = ModelShape(len(data.vocab), model.embedding_size, model.hidden_size, model.num_layers)
        self.dtype = torch.float64 if params.precision == "fp64" else torch.float32
        self.model = _fresh_model(self.shape, model, params.seed).to(accelerator.device, self.dtype)
        self.average = moving_average(self.model, params.ema_decay)
        self.evaluated = cast(CharLSTM, self.average.module)
        optimizer = torch.optim.AdamW(
            [weight for weight in self.model.parameters() if weight.requires_grad],
            lr=params.learning_rate,
            betas=(params.adam_beta1, params.adam_beta2),
            weight_decay=params.weight_decay,
            fused=accelerator.device.type in ("cpu", "cuda"),
        )
        self.trained, self.optimizer = accelerator.prepare(self.model, optimizer)
        self.step = 0
        self.state = self.model.zero_state(self.num_rows)
        self.rows: list[StepRow] = []

    def plan(self) -> Plan:
        mixed = self.accelerator.mixed_precision
        return Plan(
            num_epochs=self.params.epochs,
            num_steps=self.num_steps,
            chars_per_epoch=self.batches.chars_per_epoch,
            num_parameters=self.model.num_parameters(),
            num_processes=self.accelerator.num_processes,
            device=str(self.accelerator.device),
            precision=mixed if mixed != "no" else str(self.dtype).removeprefix("torch."),
        )

    def run_epoch(self, epoch: int, observers: Sequence[Observer]) -> float:
        """All steps of one epoch; the mean training loss on the way, in nats/char."""
        self.state = self.model.zero_state(self.num_rows)
        total, meter = LossSum(0.0, 0), StepMeter()
        for index in range(self.batches.steps_per_epoch):
            nats, gradient_norm, rate = self.take_step(epoch, index)
            meter.add(nats, gradient_norm, rate, self.batches.num_chars(index))
            if self.step % self.params.log_every_steps == 0 or index + 1 == self.batches.steps_per_epoch:
                row, loss = meter.read(self.step, epoch, self.sum_over_processes)
                total = LossSum(total.nats + loss.nats, total.num_chars + loss.num_chars)
                self.rows.append(row)
                for observer in observers:
                    observer.on_steps(row, loss.num_chars / meter.seconds())
                meter = StepMeter()
        return total.nats_per_char

    def take_step(self, epoch: int, index: int) -> tuple[Tensor, Tensor, float]:
        """One optimiser update: this process's summed loss (nats), the global gradient's norm, the learning rate."""
        params = self.params
        batch = self.batches.batch(epoch, index)
        inputs_BT, targets_BT = (ids.to(self.accelerator.device, non_blocking=True) for ids in batch)
        rate = self.set_learning_rate()
        logits_BTV, state = self.trained(inputs_BT, self.start_state(), self.masks(inputs_BT.shape[1]))
        nats = summed_nats(logits_BTV, targets_BT)
        # DDP averages over processes; the sum over all, divided once, is what is wanted.
        scale = self.accelerator.num_processes / (params.batch_size * params.context_len)
        self.accelerator.backward(nats * scale)
        limit = params.gradient_clip_norm if params.gradient_clip_norm is not None else math.inf
        gradient_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update_parameters(self.model)
        self.state = state.detach()
        self.step += 1
        return nats.detach(), gradient_norm, rate

    def set_learning_rate(self) -> float:
        rate = learning_rate(
            self.step,
            peak=self.params.learning_rate,
            warmup_steps=self.params.warmup_steps,
            num_steps=self.num_steps,
            final_fraction=self.params.final_learning_rate_fraction,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def start_state(self) -> LSTMState:
        """The carried state, with some rows set to zero so that the model also learns to start from nothing."""
        if not self.batches.carries_state:
            return self.model.zero_state(self.num_rows)
        if self.params.state_reset_probability == 0:
            return self.state
        draws = torch.rand(self.params.batch_size, generator=self.generator("state reset"))
        keep_B = (draws >= self.params.state_reset_probability)[self.batches.rows, None]
        keep_B = keep_B.to(self.accelerator.device, self.dtype)
        return LSTMState(self.state.hidden * keep_B, self.state.cell * keep_B)

    def masks(self, num_steps: int) -> DropoutMasks:
        dropout = self.params.dropout
        return draw_masks(
            self.generator("dropout"),
            DropoutRates(dropout.embedding, dropout.between_layers, dropout.output),
            num_steps=1 if dropout.style == "locked" else num_steps,
            batch_size=self.params.batch_size,
            rows=self.batches.rows,
            embedding_size=self.shape.embedding_size,
            hidden_size=self.shape.hidden_size,
            num_layers=self.shape.num_layers,
            dtype=self.dtype,
            device=self.accelerator.device,
        )

    def generator(self, purpose: str) -> torch.Generator:
        return torch_generator(self.params.seed, purpose, self.step)

    def validate(self) -> float:
        """`windowed_C` of the averaged weights, over all processes, in nats/char."""
        mine = windowed(
            self.evaluated,
            self.data.val_ids,
            self.params.validation_context_len,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )
        whole = self.sum_over_processes(torch.tensor([mine.nats, mine.num_chars], dtype=torch.float64))
        return LossSum(float(whole[0]), int(whole[1])).nats_per_char

    def sum_over_processes(self, mine: Tensor) -> Tensor:
        """The sum of all processes' float64 CPU tensors; a device without float64 (MPS) is always alone."""
        if self.accelerator.num_processes == 1:
            return mine
        whole: Tensor = self.accelerator.reduce(mine.to(self.accelerator.device), "sum")
        return whole.cpu()

    def write_texts(self, epoch: int) -> list[TextRow]:
        """One text for each of `text_prompts`, from the averaged weights."""
        rule, length = SamplingRule(self.params.text_temperature), self.params.text_len
        texts = [
            generate(self.evaluated, self.data.vocab, prompt, num_chars=length, rule=rule, seed=self.params.seed)
            for prompt in self.params.text_prompts
        ]
        return [TextRow(epoch, *pair) for pair in zip(self.params.text_prompts, texts, strict=True)]

    def weights(self) -> dict[str, Tensor]:
        """A copy of the averaged weights."""
        return {name: weight.clone() for name, weight in self.evaluated.state_dict().items()}


def _fresh_model(shape: ModelShape, params: ModelParams, seed: int) -> CharLSTM:
    model = CharLSTM(shape, params.implementation)
    generator = torch_generator(seed, "initial weights")
    model.load_state_dict(initial_weights(shape, forget_gate_bias=params.forget_gate_bias, generator=generator))
    return model

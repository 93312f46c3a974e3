"""The processes that train together, the calls between them, their device and its precision.

No other module uses Accelerate. A single process sends nothing, and each call returns the
process's own values. Collective methods must be called by every process, in the same order.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import (
    DistributedType,
    GradientAccumulationPlugin,
    broadcast_object_list,
    gather_object,
)
from torch import Tensor, nn

from charlstm.errors import Interrupted, PeerError, TrainingError

T = TypeVar("T")

SECONDS_BETWEEN_LOOKS = 0.1
MIN_CUDNN = 91300  # torch needs cuDNN 9.13 or newer to compute an LSTM in bf16
OUT_OF_MEMORY = (
    "out of memory: lower train.micro_batch_size, train.context_len or model.hidden_size, or "
    "start more processes"
)
# Size of a message with gradients. The gradients of 6.5 M weights fit into one message.
BUCKET_MIB = 25


class Precision(NamedTuple):
    """The number format in which matrices are multiplied, and the reason why it was chosen."""

    name: str
    reason: str


class Processes:
    """The processes that train together, and the device on which this process computes.

    Args:
        precision: the value of `train.precision`.
        timeout_seconds: time after which a silent process counts as lost.
        on_cpu: use the CPU even if there is a GPU, as the user told the launcher.

    Raises:
        Interrupted: the other processes could not be reached in time.
        TrainingError: this processor cannot compute in that precision, or Accelerate is configured
            for anything but processes that each hold all weights.
    """

    def __init__(
        self,
        precision: str,
        *,
        timeout_seconds: float = 60.0,
        on_cpu: bool = False,
    ) -> None:
        device_type = "cpu" if on_cpu else kind_of_device()
        self.precision = choose_precision(precision, device_type)
        with self.interrupted_by_lost_peers():
            self._accelerator = Accelerator(
                mixed_precision="bf16" if self.is_bf16 else "no",
                # Accelerate connects torchrun's CPU processes only if `cpu` is True.
                cpu=device_type == "cpu",
                # The Accelerate configuration of a machine must not change the result of training.
                dynamo_backend="no",
                gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
                kwargs_handlers=[
                    InitProcessGroupKwargs(timeout=timedelta(seconds=timeout_seconds)),
                    DistributedDataParallelKwargs(
                        bucket_cap_mb=BUCKET_MIB, gradient_as_bucket_view=True
                    ),
                ],
            )
        kind = self._accelerator.distributed_type
        if kind != DistributedType.NO and not kind.value.startswith("MULTI_"):
            raise TrainingError(
                f"Accelerate is configured for {kind.value}, but charlstm supports only processes "
                "that each hold all weights: choose no or multi-device training in `accelerate "
                "config`"
            )

    @property
    def rank(self) -> int:
        """Rank of this process, counted from 0."""
        return int(self._accelerator.process_index)

    @property
    def world_size(self) -> int:
        """Number of processes that train together."""
        return int(self._accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """True in the process that writes files and logs."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The device on which this process computes."""
        return cast(torch.device, self._accelerator.device)

    @property
    def is_bf16(self) -> bool:
        """True if matrices are multiplied in bf16."""
        return self.precision.name == "bf16"

    def describe_device(self) -> str:
        """Return a description of the device and of the libraries that affect rounding."""
        if self.device.type == "cuda":
            libraries = (f"{name} {version}" for name, version in cuda_libraries().items())
            return ", ".join([torch.cuda.get_device_name(self.device), *libraries])
        if self.device.type == "cpu":
            capability = torch.backends.cpu.get_cpu_capability()
            return f"cpu {capability}, {torch.get_num_threads()} threads"
        return self.device.type

    def distribute(self, model: nn.Module) -> nn.Module:
        """Wrap a model, so that all processes train it in this precision.

        `backward` then averages gradients over processes.
        """
        return cast(nn.Module, self._accelerator.prepare(model))

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to the weights' gradients. Collective except in `no_sync`."""
        self._accelerator.backward(loss)

    def no_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which gradients are not averaged over processes."""
        return cast(AbstractContextManager[None], self._accelerator.no_sync(model))

    def clip_gradients(self, model: nn.Module, limit: float) -> Tensor:
        """Scale the gradients to a norm of at most `limit`. Return the norm before clipping."""
        return cast(Tensor, self._accelerator.clip_grad_norm_(model.parameters(), limit))

    def gather(self, mine: Tensor) -> Tensor:
        """Return one tensor: the tensors of all processes, stacked by rank.

        With several processes, it is on the device. All tensors must have the same shape and dtype.
        Collective: every process must call this.
        """
        if self.world_size == 1:
            return mine[None]
        return cast(Tensor, self._accelerator.gather(mine.to(self.device)[None]))

    def gather_objects(self, mine: T) -> list[T]:
        """Return the values of all processes, in the order of ranks.

        Values are sent as pickles. Collective: every process must call this.
        """
        return cast(list[T], gather_object([mine]))

    def all_reduce_sum(self, mine: Tensor) -> Tensor:
        """Return the sum of the tensors of all processes, on the CPU.

        Tensors are added in the order of ranks, so that every call rounds identically. Collective:
        every process must call this.
        """
        return cast(Tensor, sum(self.gather(mine).cpu()))

    def all_reduce_max(self, mine: Sequence[float]) -> list[float]:
        """Return the elementwise maximum over the values of all processes.

        Collective: every process must call this.
        """
        largest = self.gather(torch.tensor(mine, dtype=torch.float32)).amax(0)
        return cast(list[float], largest.tolist())

    def on_main(self, work: Callable[[], T]) -> T:
        """Run `work` on process 0, without a timeout. Return its result on all processes.

        The result is sent as a pickle. If `work` fails, all processes raise an error. Collective:
        every process must call this.
        """
        if self.world_size == 1:
            return work()
        with ThreadPoolExecutor(max_workers=1) as executor:
            working = executor.submit(work) if self.is_main else None
            # Send messages meanwhile, because a process that is silent for too long counts as lost.
            while self.all_reduce_max([working is not None and not working.done()])[0]:
                time.sleep(SECONDS_BETWEEN_LOOKS)
        error = working.exception() if working else None
        result = working.result() if working and not error else None
        has_failed, result = broadcast_object_list([error is not None, result])
        if has_failed:
            raise error or PeerError("process 0 failed")
        return cast(T, result)

    @contextmanager
    def sharing_failures(self, file: Path) -> Iterator[None]:
        """Write why this process failed to `file`, unless another process failed first.

        Raises:
            TrainingError: this process failed, because memory ran out.
            PeerError: another process failed first.
        """
        try:
            yield
        except Interrupted:
            if file.exists():
                raise PeerError(file.read_text()) from None
            raise
        except Exception as error:
            if is_out_of_memory(error):
                error = TrainingError(OUT_OF_MEMORY)
            if self.world_size > 1:
                error.add_note(f"process {self.rank}")
                try:
                    file.open("x").write(f"process {self.rank}: {type(error).__name__}: {error}")
                except FileExistsError:
                    raise PeerError(file.read_text()) from None
                except OSError:
                    pass  # the disk may be full
            raise error

    @contextmanager
    def interrupted_by_lost_peers(self) -> Iterator[None]:
        """Raise `Interrupted` if another process or the connection to it is lost.

        This was tested with gloo, which raises an error. NCCL is untested: according to torch's
        documentation, its watchdog ends this process without an exception.
        """
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            # gloo raises a plain RuntimeError whose message contains the path of a gloo file.
            if isinstance(error, torch.distributed.DistError) or "gloo" in reason.lower():
                raise Interrupted(f"cannot reach another process ({reason[:200]})") from None
            raise

    def close(self) -> None:
        """Leave the process group.

        Do not call this after a failure, because NCCL would wait for other processes.
        """
        self._accelerator.end_training()


def choose_precision(asked: str, device_type: str) -> Precision:
    """Return the precision that `train.precision` selects on this type of device.

    `auto` selects bf16 if the hardware can multiply bf16 numbers, and fp32 otherwise.

    Raises:
        TrainingError: this processor cannot compute an LSTM in that precision.
    """
    if asked == "bf16" and device_type == "cpu" and not has_bf16_lstm():
        raise TrainingError(
            "train.precision is bf16, but this processor cannot compute an LSTM in bf16; set "
            "train.precision to 'auto' or 'fp32'"
        )
    if asked != "auto":
        return Precision(asked, "set by train.precision")
    hardware = "processor" if device_type == "cpu" else "GPU"
    if multiplies_bf16(device_type):
        return Precision("bf16", f"this {hardware} can multiply bf16")
    or_cudnn = ", or cuDNN is older than 9.13" if device_type == "cuda" else ""
    return Precision("fp32", f"this {hardware} cannot multiply bf16{or_cudnn}")


def multiplies_bf16(device_type: str) -> bool:
    """Return whether bf16 is faster than fp32 on this type of device.

    It is faster on CUDA devices from sm80 on with cuDNN 9.13, and on CPUs with AMX or AVX512-BF16.
    """
    if device_type == "cuda":
        version: int = torch.backends.cudnn.version() or 0  # type: ignore[no-untyped-call]
        is_supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return bool(is_supported) and version >= MIN_CUDNN
    if device_type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        has_products = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        return bool(has_products) and has_bf16_lstm()
    return False


@cache
def has_bf16_lstm() -> bool:
    """Return whether oneDNN can compute an LSTM in bf16 on this processor.

    Without oneDNN, torch takes a hundred times as long.
    """
    one = torch.zeros(1, 1, 1)
    weights = [torch.zeros(4, 1), torch.zeros(4, 1), torch.zeros(4), torch.zeros(4)]
    try:
        with torch.autocast("cpu", torch.bfloat16):
            torch.lstm(one, [one, one], weights, True, 1, 0.0, False, False, False)
    except RuntimeError:
        return False
    return True


def kind_of_device() -> str:
    """Return the type of device on which training will run, such as `cpu` or `cuda`."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator is None else accelerator.type


def cuda_libraries() -> dict[str, str]:
    """Return the versions of the libraries that affect rounding on GPUs.

    Return an empty dict if torch was built without CUDA.
    """
    versions = {"cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    if torch.distributed.is_nccl_available():
        nccl = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
        versions["nccl"] = ".".join(map(str, nccl))
    return {name: str(version) for name, version in versions.items() if version is not None}


def is_out_of_memory(error: Exception) -> bool:
    """Return whether `error` means that memory ran out.

    Many functions of torch raise a plain RuntimeError if memory runs out.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The last three patterns match messages of CUDA's libraries and NCCL.
    words = "out of memory|allocate memory|bad_alloc|ALLOC_FAILED|ALLOCATION_FAILED|CUDA calloc"
    return re.search(words, str(error)) is not None

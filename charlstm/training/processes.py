"""The processes that train together, and the collective calls between them.

No other module knows Accelerate. A single process sends nothing: each call returns the process's
own values. Collective methods must be called by every process, in the same order.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import TypeVar, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import (
    DistributedType,
    GradientAccumulationPlugin,
    broadcast_object_list,
    gather_object,
)
from torch import Tensor, nn

from charlstm.errors import Interrupted, TrainingError
from charlstm.training.precision import choose_precision, kind_of_device

T = TypeVar("T")

SECONDS_BETWEEN_LOOKS = 0.1
# Timeout of the first message, in which NCCL creates its communicator. On many machines, this may
# take minutes.
SECONDS_TO_MEET = {"cuda": 600.0}
# Size of a message of gradients. A model of 6.5 M weights fits into one message.
BUCKET_MIB = 25


class Processes:
    """The processes and the device that the launcher chose.

    Args:
        precision: `train.precision`.
        timeout_seconds: time after which a silent process counts as lost.
        on_cpu: leave a GPU unused, as the user told the launcher.

    Raises:
        Interrupted: the other processes could not be reached in time.
        TrainingError: this processor cannot compute in that precision, or Accelerate is configured
            to shard the weights.
    """

    def __init__(
        self, precision: str, *, timeout_seconds: float = 60.0, on_cpu: bool = False
    ) -> None:
        device_type = "cpu" if on_cpu else kind_of_device()
        self.precision = choose_precision(precision, device_type)
        seconds_to_meet = max(timeout_seconds, SECONDS_TO_MEET.get(device_type, 0.0))
        with self.interrupted_by_lost_peers():
            self._accelerator = Accelerator(
                mixed_precision="bf16" if self.is_bf16 else "no",
                # Accelerate joins torchrun's CPU processes only if told to use no other device.
                cpu=device_type == "cpu",
                # A machine's Accelerate configuration must not change what training computes.
                dynamo_backend="no",
                gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
                kwargs_handlers=[
                    InitProcessGroupKwargs(timeout=timedelta(seconds=seconds_to_meet)),
                    DistributedDataParallelKwargs(
                        bucket_cap_mb=BUCKET_MIB, gradient_as_bucket_view=True
                    ),
                ],
            )
        kind = self._accelerator.distributed_type
        if kind != DistributedType.NO and not kind.value.startswith("MULTI_"):
            raise TrainingError(
                f"Accelerate is configured for {kind.value}, which shards weights, but each "
                "process of charlstm holds all weights: answer no to it in `accelerate config`"
            )

        group = torch.distributed.group.WORLD
        if group is not None and seconds_to_meet > timeout_seconds:
            # The first message: all processes have met after it.
            self.gather(torch.zeros(1))
            group.set_timeout(timedelta(seconds=timeout_seconds))

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return int(self._accelerator.process_index)

    @property
    def world_size(self) -> int:
        """The number of processes."""
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
        """Return the kind of device and its libraries, as far as they decide rounding."""
        if self.device.type == "cuda":
            libraries = (f"{name} {version}" for name, version in cuda_libraries().items())
            return ", ".join([torch.cuda.get_device_name(self.device), *libraries])
        if self.device.type == "cpu":
            capability = torch.backends.cpu.get_cpu_capability()
            return f"cpu {capability}, {torch.get_num_threads()} threads"
        return self.device.type

    def distribute(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
    ) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
        """Return a model that computes in this precision, and its optimizers.

        `backward` then averages gradients over processes.
        """
        trained, *prepared = self._accelerator.prepare(model, *optimizers)
        return trained, prepared

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`. Collective, except within `no_sync`."""
        self._accelerator.backward(loss)

    def no_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which gradients are not averaged over processes."""
        return cast(AbstractContextManager[None], self._accelerator.no_sync(model))

    def clip_gradients(self, model: nn.Module, limit: float) -> Tensor:
        """Scale the gradients to a norm of at most `limit`. Return the norm before clipping."""
        return cast(Tensor, self._accelerator.clip_grad_norm_(model.parameters(), limit))

    def gather(self, mine: Tensor) -> Tensor:
        """Return all processes' tensors on the CPU, stacked by rank.

        All must have the same shape and dtype. Collective: every process must call this.
        """
        # A single process copies nothing to its device, which may lack float64.
        sent = mine if self.world_size == 1 else mine.to(self.device)
        return self.all_gather(sent).cpu()

    def all_gather(self, mine: Tensor, /) -> Tensor:
        """Return all processes' tensors on their device, stacked by rank.

        All must have the same shape and dtype. Collective: every process must call this.
        """
        if self.world_size == 1:
            return mine[None]
        stacked = mine.new_empty((self.world_size, *mine.shape))
        # Accelerate's `gather` would copy the tensors once more.
        torch.distributed.all_gather(list(stacked), mine.contiguous())
        return stacked

    def gather_objects(self, mine: T) -> list[T]:
        """Return all processes' values, in the order of ranks. Values are sent pickled.

        Collective: every process must call this.
        """
        return cast(list[T], gather_object([mine]))

    def all_reduce_sum(self, mine: Tensor) -> Tensor:
        """Return the sum of all processes' tensors on the CPU.

        Ranks are added in order, for the same bits at every call. Collective: every process must
        call this.
        """
        return cast(Tensor, sum(self.gather(mine)))

    def all_reduce_max(self, mine: Sequence[float]) -> list[float]:
        """Return the elementwise maximum of all processes' values.

        Collective: every process must call this.
        """
        largest = self.gather(torch.tensor(mine, dtype=torch.float32)).amax(0)
        return cast(list[float], largest.tolist())

    def all_equal(self, text: str) -> bool:
        """Return whether all processes passed the same string.

        Collective: every process must call this.
        """
        return len(set(self.gather_objects(text))) == 1

    def on_main(self, work: Callable[[], T]) -> T:
        """Run `work` on process 0, however long it takes. Return its result on all processes.

        The result is sent pickled. If `work` fails, all processes raise an error. Collective: every
        process must call this.
        """
        if self.world_size == 1:
            return work()
        with ThreadPoolExecutor(max_workers=1) as executor:
            working = executor.submit(work) if self.is_main else None
            # A process that sends nothing for long counts as lost, so messages continue meanwhile.
            while self.all_reduce_max([working is not None and not working.done()])[0]:
                time.sleep(SECONDS_BETWEEN_LOOKS)
        error = working.exception() if working else None
        fault = f"process 0: {error}" if error else None
        result = working.result() if working and not error else None
        result, fault = broadcast_object_list([result, fault])
        if fault:
            raise error or TrainingError(fault)
        return cast(T, result)

    @contextmanager
    def interrupted_by_lost_peers(self) -> Iterator[None]:
        """Raise `Interrupted` instead of the error for a lost process or connection.

        This was tested with gloo, which raises an error. NCCL is untested: according to torch's
        documentation, its watchdog ends this process instead.
        """
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            # gloo raises plain RuntimeErrors that contain its source file.
            if isinstance(error, torch.distributed.DistError) or "gloo" in reason.lower():
                raise Interrupted(f"cannot reach another process ({reason[:200]})") from None
            raise

    def close(self) -> None:
        """Leave the group."""
        self._accelerator.end_training()


def cuda_libraries() -> dict[str, str]:
    """Return the versions of the libraries that decide rounding on GPUs.

    Return an empty dict if torch was built without CUDA.
    """
    versions = {"cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    if torch.distributed.is_nccl_available():
        versions["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    return {name: str(version) for name, version in versions.items() if version is not None}


def is_out_of_memory(error: Exception) -> bool:
    """Return True if memory was short. Many functions of torch raise a plain RuntimeError then."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # CUDA's libraries report STATUS_ALLOC_FAILED.
    words = ("out of memory", "allocate memory", "bad_alloc", "STATUS_ALLOC_FAILED")
    return any(word in str(error) for word in words)

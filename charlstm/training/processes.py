"""The processes that train together: their ranks, and the collective calls between them.

The only module that knows Accelerate. With one process nothing is sent, and every answer is the process's own.
All methods that exchange something are collective: every process calls them, in the same order.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import TypeVar, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import DistributedType, GradientAccumulationPlugin, broadcast_object_list
from torch import Tensor, nn

from charlstm.errors import Interrupted, TrainingError
from charlstm.training.precision import choose_precision, kind_of_device

T = TypeVar("T")


SECONDS_BETWEEN_LOOKS = 0.1
# Until the first message has arrived: NCCL makes its communicator with it, which may take minutes on many machines.
SECONDS_TO_MEET = {"cuda": 600.0}
BUCKET_MIB = 25  # of gradients in one message: all of a model of 6.5 M weights


class Processes:
    """The processes and the device that the launcher decided on.

    Args:
        precision: `train.precision`.
        timeout_seconds: how long a process waits for the others before it counts them as lost.
        on_cpu: keep off a GPU that is there, as the user told the launcher.

    Raises:
        Interrupted: the others did not come.
        TrainingError: this processor cannot compute in that precision, or Accelerate is configured for something that
            would share out the weights, too.
    """

    def __init__(
        self, precision: str, *, timeout_seconds: float = 60.0, on_cpu: bool = False
    ) -> None:
        device_type = "cpu" if on_cpu else kind_of_device()
        self.precision = choose_precision(precision, device_type)
        to_meet = SECONDS_TO_MEET.get(device_type, 0.0)
        try:
            self._accelerator = Accelerator(
                mixed_precision="bf16" if self.precision.name == "bf16" else "no",
                # It joins the processes of torchrun on CPUs only if it is told that there is nothing else.
                cpu=device_type == "cpu",
                # Where training runs is the machine's business; what it computes is not.
                dynamo_backend="no",
                gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
                kwargs_handlers=[
                    InitProcessGroupKwargs(
                        timeout=timedelta(seconds=max(timeout_seconds, to_meet))
                    ),
                    DistributedDataParallelKwargs(
                        bucket_cap_mb=BUCKET_MIB, gradient_as_bucket_view=True
                    ),
                ],
            )
        except RuntimeError as error:
            if not _is_of_communication(error):
                raise
            raise Interrupted(
                f"the other processes did not come ({' '.join(str(error).split())[:200]})"
            ) from None
        kind = self._accelerator.distributed_type
        if kind != DistributedType.NO and not kind.value.startswith("MULTI_"):
            raise TrainingError(
                f"Accelerate is configured for {kind.value}, which shares out weights; each process of charlstm has "
                "them all: answer no to it in `accelerate config`"
            )

        if self.world_size > 1 and to_meet > timeout_seconds:
            self.gather(torch.zeros(1))
            torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=timeout_seconds))

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return int(self._accelerator.process_index)

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return int(self._accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The device on which this process computes."""
        return cast(torch.device, self._accelerator.device)

    def describe_device(self) -> str:
        """The kind of device, as far as it decides the bits of a result."""
        if self.device.type == "cuda":
            libraries = (f"{name} {version}" for name, version in cuda_libraries().items())
            return ", ".join([torch.cuda.get_device_name(self.device), *libraries])
        if self.device.type == "cpu":
            return (
                f"cpu {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
            )
        return self.device.type

    @property
    def is_bf16(self) -> bool:
        """Whether matrices are multiplied in bf16."""
        return self.precision.name == "bf16"

    def distribute(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
    ) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
        """Model and optimizers such that `backward` averages gradients over processes; forward is in this precision."""
        trained, *prepared = self._accelerator.prepare(model, *optimizers)
        return trained, prepared

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`."""
        self._accelerator.backward(loss)

    def no_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """A context in which gradients add up in each process alone."""
        return cast(AbstractContextManager[None], self._accelerator.no_sync(model))

    def clip_gradients(self, model: nn.Module, limit: float) -> Tensor:
        """Scale the gradients to a norm of at most `limit`; the norm before."""
        return cast(Tensor, self._accelerator.clip_grad_norm_(model.parameters(), limit))

    def gather(self, mine: Tensor) -> Tensor:
        """The tensors of all processes, stacked by rank, on the CPU; all give the same shape and dtype."""
        return (
            mine[None].cpu()
            if self.world_size == 1
            else self.all_gather(mine.to(self.device)).cpu()
        )

    def all_gather(self, mine: Tensor, /) -> Tensor:
        """The tensors of all processes, stacked by rank, on their device; all give the same shape and dtype."""
        if self.world_size == 1:
            return mine[None]
        everyones = mine.new_empty((self.world_size, *mine.shape))
        torch.distributed.all_gather(
            list(everyones), mine.contiguous()
        )  # Accelerate's `gather` copies them once more
        return everyones

    def all_reduce_sum(self, mine: Tensor) -> Tensor:
        """The sum of all processes' tensors, on the CPU, added in the order of ranks: the same bits at every call."""
        return cast(Tensor, sum(self.gather(mine)))

    def all_reduce_max(self, mine: Sequence[float]) -> list[float]:
        """The largest of each value over all processes."""
        return cast(
            list[float], self.gather(torch.tensor(mine, dtype=torch.float32)).amax(0).tolist()
        )

    def all_equal(self, what: str) -> bool:
        """Whether every process gave the same string."""
        digest = hashlib.sha256(what.encode()).digest()
        digests_ND = self.gather(torch.frombuffer(bytearray(digest), dtype=torch.uint8))
        return bool((digests_ND == digests_ND[0]).all())

    def on_main(self, work: Callable[[], T]) -> T:
        """Have process 0 do `work`, however long it takes. Return its result, pickled, on every process."""
        if self.world_size == 1:
            return work()
        with ThreadPoolExecutor(max_workers=1) as executor:
            working = executor.submit(work) if self.is_main else None
            # Messages that arrive within the time after which a process counts as lost.
            while self.all_reduce_max([float(working is not None and not working.done())])[0]:
                time.sleep(SECONDS_BETWEEN_LOOKS)
            result = [None if working is None else working.result()]
        return cast(T, broadcast_object_list(result)[0])

    @contextmanager
    def interrupted_by_lost_peers(self) -> Iterator[None]:
        """A context that turns the error for a lost process, or a lost connection to it, into `Interrupted`.

        Tried with gloo, which reports it by an error. NCCL was not tried: by torch's documentation, its watchdog ends
        this process instead.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world_size == 1 or not _is_of_communication(error):
                raise
            sentence = str(error).partition("\n")[0].partition(". ")[0]
            reason = re.sub(r"^\[[^]]*\] *", "", sentence)  # without the place in gloo's source
            raise Interrupted(f"lost contact with another process ({reason[:100]})") from None

    def close(self) -> None:
        """Leave the group."""
        self._accelerator.end_training()


def cuda_libraries() -> dict[str, str]:
    """The versions of what computes and adds on GPUs; empty in a torch without CUDA."""
    versions = {"cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    if torch.distributed.is_nccl_available():
        versions["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    return {name: str(version) for name, version in versions.items() if version is not None}


def is_out_of_memory(error: Exception) -> bool:
    """Whether it was raised for want of memory. Much of torch has a plain RuntimeError for it."""
    words = (
        "out of memory",
        "allocate memory",
        "bad_alloc",
        "STATUS_ALLOC_FAILED",
    )  # the last is of CUDA's libraries
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        word in str(error) for word in words
    )


def _is_of_communication(error: RuntimeError) -> bool:
    # gloo raises plain RuntimeErrors that name its source file.
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()

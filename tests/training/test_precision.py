"""bf16 is asked of the device that trains, and of no other."""

import pytest
import torch

from charlstm.training.processes import Processes, multiplies_bf16
from pipeline.stage.hardware import is_kept_on_cpu


@pytest.fixture
def beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with a GPU, which must not be asked anything."""

    def asked(*_: object, **__: object) -> bool:
        raise AssertionError("CUDA was asked")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", asked)


def test_training_on_the_cpu_beside_a_gpu_does_not_ask_cuda(
    beside_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`accelerate launch --cpu` sets this variable."""
    assert not is_kept_on_cpu()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    processes = Processes("auto", on_cpu=is_kept_on_cpu())
    assert processes.device.type == "cpu"
    capabilities = torch.cpu.get_capabilities()
    assert processes.is_bf16 == bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def test_training_on_a_gpu_asks_it(beside_a_gpu: None) -> None:
    with pytest.raises(AssertionError, match="CUDA was asked"):
        multiplies_bf16("cuda")


def test_other_devices_train_in_fp32() -> None:
    assert not multiplies_bf16("mps")

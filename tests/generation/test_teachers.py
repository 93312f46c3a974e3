"""What an ensemble writes, and the distributions that it leaves for a student."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from charlstm.generation.quantized import QuantizedLanguageModel
from charlstm.generation.teachers import CHUNK, Teachers
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.sampling import Sampling
from charlstm.text.soft_targets import PROBABILITIES, quantize_log_probabilities

SHAPE = ModelShape(9, 4, 16, 1, 5)
NUM_CHARS = CHUNK + 30


@pytest.fixture(scope="module")
def models() -> list[CharLSTM]:
    torch.manual_seed(0)
    models = [CharLSTM(SHAPE._replace(hidden_size=size), "fused").eval() for size in (16, 24, 16)]
    for model in models:
        for weight in model.parameters():
            weight.requires_grad_(False).mul_(4)  # so that they have opinions
    return models


def write(
    models: list[CharLSTM], prompts_RT: torch.Tensor, temperature: float = 1.0, first: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    pieces = list(Teachers(models).write(prompts_RT, Sampling(NUM_CHARS, temperature, seed=5), first))
    assert [ids_RT.shape[1] for ids_RT, _ in pieces] == [CHUNK, 30]
    ids, codes = zip(*pieces, strict=True)
    return np.concatenate(ids, 1), np.concatenate(codes, 1)


def test_the_distributions_are_the_mean_of_the_models_at_what_was_written(models: list[CharLSTM]) -> None:
    prompts_RT = torch.randint(9, (3, 6))
    written_RT, quantized_RTV = write(models, prompts_RT)
    ids_RT = torch.cat([prompts_RT, torch.from_numpy(written_RT)], 1)
    alone = [QuantizedLanguageModel(model) for model in models]
    logits = [model(ids_RT, model.zero_state(3))[0] for model in alone]
    mean_RTV = torch.stack(logits).softmax(-1).mean(0)[:, 5:-1]
    assert np.array_equal(quantized_RTV, quantize_log_probabilities(mean_RTV.log().numpy()))


def test_characters_are_drawn_from_them(models: list[CharLSTM]) -> None:
    ids_RT, quantized_RTV = write(models, torch.zeros((400, 1), dtype=torch.int64))
    probable_RTV = PROBABILITIES[quantized_RTV]
    probable_RTV /= probable_RTV.sum(2, keepdims=True)
    expected_V, counts_V = probable_RTV.sum((0, 1)), np.bincount(ids_RT.ravel(), minlength=9)
    deviation_V = np.sqrt((probable_RTV * (1 - probable_RTV)).sum((0, 1)))
    assert (np.abs(counts_V - expected_V) < 4 * deviation_V + 0.01 * expected_V).all()


def test_a_row_does_not_depend_on_the_others_or_on_the_batch(models: list[CharLSTM]) -> None:
    prompts_RT = torch.randint(9, (5, 6))
    whole, last = write(models, prompts_RT), write(models, prompts_RT[3:], first=3)
    assert np.array_equal(whole[0][3:], last[0]) and np.array_equal(whole[1][3:], last[1])
    assert not np.array_equal(write(models, prompts_RT[:1])[0], write(models, prompts_RT[:1], first=1)[0])


def test_the_temperature_is_of_the_draws_alone(models: list[CharLSTM]) -> None:
    prompts_RT = torch.randint(9, (5, 6))
    (_, warm_RTV), (ids_RT, greedy_RTV) = write(models, prompts_RT), write(models, prompts_RT, temperature=0.0)
    assert np.array_equal(warm_RTV[:, 0], greedy_RTV[:, 0])
    drawn_RT = np.take_along_axis(greedy_RTV, ids_RT[..., None], 2)[..., 0]
    assert np.array_equal(drawn_RT, greedy_RTV.min(2))

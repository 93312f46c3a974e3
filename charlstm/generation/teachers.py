"""Texts that an ensemble of models writes, with the distribution of each character, for a student to learn from.

A text that teachers have memorized teaches nothing that its characters do not; one that they make up as they go does
("data-free" distillation; for texts Kim & Rush 2016). Weights are in 8 bits, as the sampler has them. The mean of
probabilities is in float32, whose exponential one kind of processor rounds otherwise than another: unlike a model's own
texts, these are the same on the same kind alone. Shapes: M models, R rows, T characters, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.generation.drawing import Rules, draw, key_of, uniforms
from charlstm.generation.quantized import Stepper, quantize
from charlstm.model.char_lstm import CharLSTM
from charlstm.sampling import Sampling
from charlstm.text.soft_targets import quantize_log_probabilities

CHUNK = 64  # characters of each row that are handed over at once


class Teachers:
    """Models of one vocabulary; the mean of their probabilities is the distribution that they teach."""

    def __init__(self, models: Sequence[CharLSTM]) -> None:
        self._steppers = [Stepper(quantize(model)) for model in models]
        self._vocab_size = models[0].shape.vocab_size

    @torch.inference_mode()
    def write(
        self, prompts_RT: Tensor, sampling: Sampling, first: int = 0
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Continue each prompt (int64, equally long), a few characters at a time.

        Each piece has their ids (R, T), and the quantized distributions (R, T, V) that they were drawn from.
        `first` is the number of the first row among all texts of this seed. The distributions are those of
        temperature 1, whatever `sampling` draws by.
        """
        rows = range(first, first + len(prompts_RT))
        keys_R = np.array([key_of(sampling.seed, "", row) for row in rows], np.uint64)
        rules = Rules.of([sampling] * len(rows), self._vocab_size)
        states = [one.read(prompts_RT, one.zero_state(len(rows))) for one in self._steppers]
        for start in range(0, sampling.num_chars, CHUNK):
            count = min(CHUNK, sampling.num_chars - start)
            ids_RT = np.empty((len(rows), count), np.int64)
            quantized_RTV = np.empty((len(rows), count, self._vocab_size), np.uint8)
            for step, uniforms_R in enumerate(uniforms(keys_R, start, count).T):
                pairs = zip(self._steppers, states, strict=True)
                logits_MRV = torch.stack([stepper.logits(state) for stepper, state in pairs])
                logs_RV = logits_MRV.softmax(2).mean(0).log().numpy()
                ids_RT[:, step], quantized_RTV[:, step] = (
                    draw(logs_RV, rules, uniforms_R),
                    quantize_log_probabilities(logs_RV),
                )
                ids_R1 = torch.from_numpy(ids_RT[:, step, None])
                states = [one.read(ids_R1, state) for one, state in zip(self._steppers, states, strict=True)]
            yield ids_RT, quantized_RTV

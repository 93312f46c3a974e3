"""Texts that the model generates after each epoch."""

import logging
from collections.abc import Callable, Sequence

from charlstm.generation.sampler import Request, Sampler
from charlstm.history import EpochRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.params import Params
from charlstm.sampling import Sampling
from charlstm.text.prompts import check_prompts, resolve_prompts
from charlstm.text.vocabulary import Ids, Vocab
from charlstm.training.progress import Observer

log = logging.getLogger("charlstm")

NUM_PROMPTS = 2  # use only this many prompts, the first in `sample.prompts`
NUM_CHARS = 300
TEMPERATURE = 0.8
# Shows or records the texts of an epoch, given as (prompt, text) pairs.
Show = Callable[[int, Sequence[tuple[str, str]]], None]


def epoch_prompts(params: Params, val_ids: Ids, vocab: Vocab) -> tuple[str, ...]:
    """Return the prompts of the texts that the model generates after each epoch.

    Check all of `sample.prompts`, so that a prompt that stage sample would reject is reported
    before training.

    Raises:
        VocabularyError: a prompt has characters that are not in the training part.
    """
    prompts = resolve_prompts(params.sample.prompts, val_ids, vocab)
    check_prompts(vocab, prompts, "sample.prompts")
    return prompts[:NUM_PROMPTS]


class EpochTexts(Observer):
    """An observer that generates texts after each epoch and passes them to the `shows` callbacks.

    A failure costs the texts of an epoch, and never the training run.
    """

    def __init__(
        self, prompts: Sequence[str], vocab: Vocab, seed: int, shows: Sequence[Show]
    ) -> None:
        sampling = Sampling(NUM_CHARS, TEMPERATURE, seed=seed)
        self._requests = [Request(prompt, sampling) for prompt in prompts]
        self._vocab = vocab
        self._shows = shows

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Generate a text for each prompt."""
        try:
            generated = Sampler(model, self._vocab).generate(self._requests)
        except Exception as error:
            log.warning("epoch %d: no texts were generated (%r)", row.epoch, error)
            return
        pairs = zip(self._requests, generated, strict=True)
        texts = [(request.prompt, answer.text) for request, answer in pairs]
        for show in self._shows:
            show(row.epoch, texts)

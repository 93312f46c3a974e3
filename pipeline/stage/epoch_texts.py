"""What the model writes after each epoch of training, for people to watch. It is a view: no output has these texts."""

from collections.abc import Callable, Sequence

from charlstm.generation.sampler import Request, Sampler
from charlstm.model.char_lstm import CharLSTM
from charlstm.params import Params
from charlstm.sampling import Sampling
from charlstm.text.prompts import check_prompts, resolve_prompts
from charlstm.text.vocabulary import Ids, Vocab
from charlstm.training.history import EpochRow
from charlstm.training.progress import Observer

NUM_PROMPTS = 2  # of `sample.prompts`, the first
NUM_CHARS, TEMPERATURE = 300, 0.8
WrittenText = tuple[str, str]  # a prompt, and how the model goes on
Show = Callable[[int, Sequence[WrittenText]], None]


def epoch_prompts(params: Params, val_ids: Ids, vocab: Vocab) -> tuple[str, ...]:
    """The prompts of these texts. All of `sample.prompts` are checked: what `sample` would refuse stops training, too.

    Raises:
        VocabularyError: a prompt has characters that training never saw; those of `auto` have none.
    """
    prompts = resolve_prompts(params.sample.prompts, val_ids, vocab)
    check_prompts(vocab, prompts, "sample.prompts")
    return prompts[:NUM_PROMPTS]


class EpochTexts(Observer):
    """The model writes after each epoch, and each of `shows` gets the epoch and texts."""

    def __init__(self, prompts: Sequence[str], vocab: Vocab, seed: int, shows: Sequence[Show]) -> None:
        sampling = Sampling(NUM_CHARS, TEMPERATURE, seed=seed)
        self._requests = [Request(prompt, sampling) for prompt in prompts]
        self._vocab, self._shows = vocab, shows

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Write a text for each prompt."""
        generated = Sampler(model, self._vocab).generate(self._requests)
        texts = [(request.prompt, text.text) for request, text in zip(self._requests, generated, strict=True)]
        for show in self._shows:
            show(row.epoch, texts)

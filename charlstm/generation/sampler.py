"""Generating text, one character at a time, with an explicit generator.

A row is generated alone, from its own seed, by the same arithmetic whatever else is asked for: the same row gives the
same text alone or among others.
Shapes: V vocabulary, H hidden units, G = 4H gate rows.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import NamedTuple, cast

import torch
from torch import Tensor

from charlstm.errors import VocabularyError
from charlstm.generation.rule import SamplingRule as SamplingRule
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import GATES, LSTMState
from charlstm.model.layers import FusedLayer, GatesLayer
from charlstm.seeds import torch_generator
from charlstm.text.vocabulary import Vocab, describe


class Stepper:
    """`CharLSTM.forward` for one row and one character, many times faster than a sequence of length 1.

    The embedding, W_x and bias of the first layer are folded into a table with a row of gate inputs per character;
    what is left is one matrix-vector product a layer, the feed-forward block and the head. Works in fp32 on the CPU.
    """

    def __init__(self, model: CharLSTM) -> None:
        copy = deepcopy(model).to("cpu", torch.float32).requires_grad_(False)
        self._layers = [cast(GatesLayer | FusedLayer, layer).stacked_weights() for layer in copy.layers]
        first = self._layers[0]
        self._table_VG = torch.addmm(first.bias, copy.embedding.weight, first.from_input.t())
        self._feed_forward, self._head = copy.feed_forward, copy.head
        zeros_H = torch.zeros(model.shape.hidden_size)
        self._state = [(zeros_H, zeros_H)] * model.shape.num_layers

    @property
    def state(self) -> LSTMState:
        """What was read so far, (L, 1, H)."""
        hidden, cell = zip(*self._state, strict=True)
        return LSTMState(torch.stack(hidden)[:, None], torch.stack(cell)[:, None])

    def start_from(self, state: LSTMState) -> Tensor:
        """Have read what `state` has; the logits (V,) of the next character."""
        self._state = list(zip(state.hidden[:, 0], state.cell[:, 0], strict=True))
        return torch.addmv(self._head.bias, self._head.weight, self._feed_forward(self._state[-1][0]))

    def step(self, index: int) -> Tensor:
        """Read the character with id `index`; the logits (V,) of the next one."""
        from_input_G = self._table_VG[index]
        for layer, (hidden_H, cell_H) in enumerate(self._state):
            if layer > 0:
                below_H, _ = self._state[layer - 1]
                from_input_G = torch.addmv(self._layers[layer].bias, self._layers[layer].from_input, below_H)
            gates_G = torch.addmv(from_input_G, self._layers[layer].from_hidden, hidden_H)
            input_H, forget_H, candidate_H, output_H = gates_G.chunk(len(GATES))
            cell_H = forget_H.sigmoid() * cell_H + input_H.sigmoid() * candidate_H.tanh()
            self._state[layer] = (output_H.sigmoid() * cell_H.tanh(), cell_H)
        top_H, _ = self._state[-1]
        return torch.addmv(self._head.bias, self._head.weight, self._feed_forward(top_H))


@torch.no_grad()
def generate(model: CharLSTM, vocab: Vocab, prompt: str, *, num_chars: int, rule: SamplingRule, seed: int) -> str:
    """`num_chars` characters that follow `prompt`; the prompt is not repeated.

    Raises:
        VocabularyError: the prompt is empty or has characters that the vocabulary lacks.
    """
    check_prompts(vocab, [prompt])
    generator = torch_generator(seed, "sample")
    stepper = Stepper(model)
    for index in vocab.encode(prompt):
        logits_V = stepper.step(int(index))
    ids = []
    for _ in range(num_chars):
        ids.append(draw(logits_V, rule, generator))
        logits_V = stepper.step(ids[-1])
    return vocab.decode(ids)


def check_prompts(vocab: Vocab, prompts: list[str] | tuple[str, ...]) -> None:
    """Nothing, if all of `prompts` can be read.

    Raises:
        VocabularyError: a prompt is empty or has characters that the vocabulary lacks.
    """
    for prompt in prompts:
        if not prompt:
            raise VocabularyError("a prompt is empty; give at least one character, e.g. a newline")
        if unknown := vocab.unknown(prompt):
            raise VocabularyError(
                f"the prompt {prompt!r} has characters that the model never saw: {describe(unknown)}; "
                f"it knows {vocab.characters[:200]!r}"
            )


class Request(NamedTuple):
    """One text that is asked for."""

    prompt: str
    num_chars: int
    rule: SamplingRule
    seed: int
    index: int = 0  # type: ignore[assignment]
    stop: tuple[str, ...] = ()
    state: LSTMState | None = None


class Generated(NamedTuple):
    """A text, and the state after all that was read and drawn."""

    text: str
    state: LSTMState


class Stream:
    """Characters as they are drawn."""

    def __init__(self, sampler: "Sampler", request: Request) -> None:
        self._stepper = Stepper(sampler.model)
        self._characters = self._draw(sampler.vocab, request)

    def __iter__(self) -> Iterator[str]:
        return self._characters

    @property
    def state(self) -> LSTMState:
        """What was read so far."""
        return self._stepper.state

    @torch.no_grad()
    def _draw(self, vocab: Vocab, request: Request) -> Iterator[str]:
        counters = (request.index,) if request.index else ()
        generator = torch_generator(request.seed, "sample", *counters)
        if request.state is not None:
            logits_V = self._stepper.start_from(request.state)
        for index in vocab.encode(request.prompt):
            logits_V = self._stepper.step(int(index))
        held = ""
        for _ in range(request.num_chars):
            drawn = draw(logits_V, request.rule, generator)
            logits_V = self._stepper.step(drawn)
            held += vocab.characters[drawn]
            if any(held.endswith(one) for one in request.stop):
                yield from held[: min(held.find(one) for one in request.stop if one in held)]
                return
            keep = max((n for one in request.stop for n in range(len(one)) if held.endswith(one[:n])), default=0)
            yield from held[: len(held) - keep]
            held = held[len(held) - keep :]
        yield from held


class Sampler:
    """Writes texts."""

    def __init__(self, model: CharLSTM, vocab: Vocab) -> None:
        self.model, self.vocab = model, vocab

    def generate(self, requests: Sequence[Request]) -> list[Generated]:
        """A text for each request."""
        found = []
        for request in requests:
            stream = self.stream(request)
            found.append(Generated("".join(stream), stream.state))
        return found

    def stream(self, request: Request) -> Stream:
        """The characters of one text."""
        return Stream(self, request)


def draw(logits_V: Tensor, rule: SamplingRule, generator: torch.Generator) -> int:
    """The id of one character."""
    if rule.temperature == 0:
        return int(logits_V.argmax())
    return int(torch.multinomial(probabilities(logits_V, rule), 1, generator=generator))


def probabilities(logits_V: Tensor, rule: SamplingRule) -> Tensor:
    """The distribution (V,) that `rule` makes of the logits; `rule.temperature` is above 0."""
    scaled_V = logits_V / rule.temperature
    if not scaled_V.isfinite().all():  # beyond fp32; only the distance from the largest logit matters
        scaled_V = ((logits_V - logits_V.max()).double() / rule.temperature).to(logits_V.dtype)
    sorted_V, order_V = torch.softmax(scaled_V, dim=0).sort(descending=True, stable=True)
    if rule.top_k is not None:
        sorted_V[rule.top_k :] = 0
    mass_before_V = sorted_V.cumsum(0) - sorted_V
    sorted_V[mass_before_V >= rule.top_p * sorted_V.sum()] = 0
    sorted_V[sorted_V < rule.min_p * sorted_V[0]] = 0
    return torch.zeros_like(logits_V).scatter(0, order_V, sorted_V / sorted_V.sum())

"""Whether the model will know all characters of all prompts: found out before it trains, not after."""

from collections.abc import Iterator

from charlstm.generation.prompts import faults_of
from charlstm.params import Params
from charlstm.sections import AUTO
from pipeline.doctor.finding import Finding, error, warning
from pipeline.doctor.text_there import Encoded


def check(params: Params, encoded: Encoded | None) -> Iterator[Finding]:
    """Of the present text; without its vocabulary, the train stage's launcher asks again."""
    if encoded is None:
        return
    named = {"train.text_prompts": params.train.text_prompts, "sample.prompts": params.sample.prompts}
    for name, prompts in named.items():
        if prompts != AUTO:
            yield from (error(fault) for fault in faults_of(encoded.vocab, prompts, name))
    top_k = params.sample.top_k or 0
    if top_k > len(encoded.vocab):
        size = f"{len(encoded.vocab)} {encoded.vocab.unit}s"
        yield warning(f"sample.top_k: {top_k} has no effect: the vocabulary has {size}")

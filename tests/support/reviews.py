"""Review documents for tests: small, complete, and hostile."""

from html.parser import HTMLParser
from typing import Any

from charlstm.evaluation.results import LossCurves, TextFigures
from charlstm.interpretation.analysis import CellsDocument
from charlstm.review.document import Copy, Loss, ReviewDocument, Sample

HOSTILE = (
    "<script>document.title = 'it ran'</script>"
    "<img src=https://example.org/x.png onerror=\"document.title='it ran'\">"
    "\"'`]]>--><!--</pre></style></title>{{ 7 * 7 }}{% raw %}&lt;"
    "\u2028\u2029\u202egnirts\u202c\u2066\u0000\u0007\x1b[2J\r\n"
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \ufeff\U000e0041\u0301\u0301 end"
)


def sample(text: str, prompt: str = "\n", **changes: object) -> Sample:
    """Return a sample without copied spans, unless `changes` has some."""
    fields = {"prompt": prompt, "temperature": 0.8, "top_k": None, "top_p": 0.98, "seed": 1}
    fields |= {"text": text, "num_chars": len(text), "nats_per_char": 1.25, "copies": []}
    return Sample.model_validate({**fields, **changes})


def copy(start: int, length: int, **changes: object) -> Copy:
    """Return a copied span that is in line 3, column 4 of the training text."""
    fields = {"start": start, "length": length, "num_times": 1, "line": 3, "column": 4}
    return Copy.model_validate({**fields, **changes})


def review(samples: list[Sample], **changes: object) -> ReviewDocument:
    """Return the review of a model with one layer and these samples."""
    figures: dict[str, Any] = {"num_texts": 1, "num_chars": 10, "known_words": 0.5}
    figures |= {"distinct_bigrams": None, "longest_copied": 12, "copied": 0.0, "phrases": 0.0}
    found = ReviewDocument(
        schema_version=4,
        model_sha256="a" * 64,
        corpus="some text",
        corpus_sha256="b" * 64,
        validation_sha256="c" * 64,
        num_layers=1,
        hidden_size=16,
        num_parameters=1234,
        vocab_size=65,
        num_train_chars=5000,
        num_val_chars=500,
        num_epochs=2,
        best_epoch=1,
        parameters={"train.seed": 1, "model.hidden_size": 16, "sample.top_k": None},
        losses={"stateful": Loss(nats_per_char=1.5, bits_per_char=2.2, perplexity=4, num_chars=9)},
        published=[],
        curves=LossCurves(training=[(0.5, 2.0), (1.0, 1.6)], validation=[(1, 1.5), (2, 1.55)]),
        figures=[
            TextFigures(temperature=temperature, nats_per_char=1.25, **figures)
            for temperature in (0.8, None)
        ],
        samples=samples,
        num_samples=len(samples),
    )
    return found.model_copy(update=changes)


def cells(text: str, excerpt: str = "one\ntwo", **changes: object) -> CellsDocument:
    """Return a confirmed label and an unconfirmed label. `text` fills all texts of the first."""
    confirmed = {
        **{"label": text, "meaning": text, "is_yes_or_no": False, "layer": 1, "unit": 7},
        **{"effect_found": 0.9, "effect_again": 0.8, "p_value": 0.001, "is_confirmed": True},
        "excerpt": excerpt,
        "levels": [round(200 * at / len(excerpt)) - 100 for at in range(len(excerpt))],
    }
    other = {"label": "another label", "unit": 8, "p_value": 0.5, "is_confirmed": False}
    other |= {"excerpt": "", "levels": []}
    tested = [confirmed, {**confirmed, **other}]
    found = CellsDocument.model_validate(
        {"schema_version": 2, "reason": None, "num_cells": 16, "num_chars": 2000, "tested": tested}
    )
    return found.model_copy(update=changes)


class Page(HTMLParser):
    """Parser of a page: its tags, its attributes, and its text inside and outside of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        (self.scripts if self.tags and self.cdata_elem == "script" else self.texts).append(data)

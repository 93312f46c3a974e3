"""Stage sample: model -> generated texts for prompts x temperatures x seeds, review page."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import pandas as pd

from charlstm.evaluation.baselines import BASELINES, read_baselines
from charlstm.evaluation.results import write_document
from charlstm.files.atomic import atomic_folder, write_text
from charlstm.files.checksums import read_sums, sums_of
from charlstm.generation.quantized import quantize
from charlstm.generation.sampler import Request, Sampler
from charlstm.history import read_tables, write_csv
from charlstm.interpretation.analysis import CELLS, read_cells
from charlstm.model.model_folder import TrainedModel, load_model
from charlstm.model.shape import WEIGHTS
from charlstm.params import Params, SampleParams
from charlstm.review.collect import Corpus, SampleRow, review_of
from charlstm.review.document import DOCUMENT, PAGE, read_losses
from charlstm.review.page import page_of, playground_of
from charlstm.sampling import Sampling
from charlstm.text.encoded import load_parts
from charlstm.text.prompts import check_prompts, resolve_prompts
from pipeline.lineage.mlflow_run import SAMPLES, publish_outputs
from pipeline.run.stage import Stage


def run(stage: Stage) -> None:
    """Generate texts, write them with a review page, and add them to the model's MLflow run."""
    params = stage.params
    paths = stage.paths
    trained = load_model(paths.model, params.model.implementation)
    vocab = trained.vocab
    _, (train, val) = load_parts(paths.encoded, ("train", "val"), expected=vocab)
    tables = read_tables(paths.train, paths.model / WEIGHTS)
    prompts = resolve_prompts(params.sample.prompts, val.ids, vocab)
    check_prompts(vocab, prompts, "sample.prompts")
    parameters = _by_section(params, prompts)
    # Read all files before generating texts, so that a damaged file is reported at once.
    losses = read_losses(paths.evaluate / "metrics.json")
    cells = read_cells(paths.evaluate / CELLS)
    baselines = read_baselines(paths.evaluate / BASELINES)
    # This stage has no parameter for the corpus name, which is part of an input's path.
    name = paths.corpus.stem
    corpus_sha256 = read_sums(sums_of(paths.corpus)).get(paths.corpus.name, "")
    fallback = params.download.fallback
    if fallback is not None and corpus_sha256 == fallback.sha256:
        name = f"{name}-fallback"
    corpus = Corpus(name, corpus_sha256, train, val)
    rows = _generate(params.sample, prompts, trained)
    review = review_of(trained, corpus, tables, losses, parameters, rows)
    playground = playground_of(quantize(trained.model), vocab)
    page = page_of(review, playground=playground, cells=cells, baselines=baselines)
    with atomic_folder(paths.samples) as folder:
        write_csv(folder / SAMPLES, pd.DataFrame(rows))
        for index, row in enumerate(rows):
            text = f"{row.prompt}{row.text}\n"
            (folder / file_name(index, row)).write_text(text, "utf-8", newline="")
        write_document(folder / DOCUMENT, review, indent=1)
        write_text(folder / PAGE, page)
    publish_outputs(params, paths, has_samples=True)


def _by_section(params: Params, prompts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the parameters that the review shows, by section, with the resolved prompts.

    The source of the corpus is left out, because the hash of the corpus identifies the text.
    """
    sections = {
        "split": params.split,
        "encode": params.encode,
        "model": params.model,
        "train": params.train,
        "evaluate": params.evaluate,
        "sample": params.sample,
    }
    shown = {name: section.model_dump(mode="json") for name, section in sections.items()}
    shown["sample"]["prompts"] = list(prompts)
    return shown


def _generate(
    section: SampleParams, prompts: Sequence[str], trained: TrainedModel
) -> list[SampleRow]:
    num_chars = section.num_chars
    rule = (section.top_k, section.top_p, section.min_p)
    requests = [
        Request(prompt, Sampling(num_chars, temperature, *rule, seed))
        for prompt in prompts
        for temperature in section.temperatures
        for seed in section.seeds
    ]
    texts = Sampler(trained.model, trained.vocab).generate(requests)
    return [
        SampleRow(prompt, how.temperature, how.top_k, how.top_p, how.min_p, how.seed, written.text)
        for (prompt, how, *_), written in zip(requests, texts, strict=True)
    ]


def file_name(index: int, row: SampleRow) -> str:
    """Return a file name such as `02-romeo-temperature-0.8-seed-1.txt`. `index` sorts the files."""
    return f"{index:02d}-{_words(row.prompt)}-temperature-{row.temperature}-seed-{row.seed}.txt"


def _words(prompt: str) -> str:
    """Return a prompt's first ASCII letters and digits, without accents, for use in a file name."""
    plain = unicodedata.normalize("NFKD", prompt.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"\W+", "-", plain).strip("-")[:20] or ("newline" if prompt.isspace() else "text")

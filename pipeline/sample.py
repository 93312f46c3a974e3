"""Stage sample: model -> generated texts, for prompts x temperatures x seeds, and the page that reviews them."""

import itertools
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from charlstm.evaluation.baselines import BASELINES, read_baselines
from charlstm.evaluation.results import published_for, write_document
from charlstm.files.atomic import atomic_folder, write_text
from charlstm.files.checksums import read_sums, sums_of
from charlstm.generation.quantized import quantize
from charlstm.generation.sampler import Request, Sampler
from charlstm.history import read_tables, write_csv
from charlstm.interpretation.analysis import CELLS, read_cells
from charlstm.model.model_folder import TrainedModel, load_model
from charlstm.model.shape import WEIGHTS
from charlstm.params import Params, SampleParams, Section
from charlstm.prompts import resolve_prompts
from charlstm.report.collect import SampleRow, review_of
from charlstm.report.document import DOCUMENT, PAGE, read_losses
from charlstm.report.page import page_of
from charlstm.report.playground import playground_of
from charlstm.sampling import Sampling
from charlstm.text.encoded import text_sha256
from charlstm.text.encoded_files import load_parts
from charlstm.unknown_characters import check_prompts
from pipeline.lineage.outputs import SAMPLES, publish_outputs
from pipeline.run import stage
from pipeline.run.dvc import Paths
from pipeline.sample_names import file_name


def run(params: Params, paths: Paths) -> None:
    """Generate; write one file a text, one table of all, and their review; add them to the model's MLflow run."""
    shape = params.model
    trained = load_model(paths.model, shape.implementation)
    _, (train, val) = load_parts(
        paths.encoded,
        ("train", "val"),
        separator=params.split.document_separator,
        expected=trained.vocab,
    )
    tables = read_tables(paths.train, paths.model / WEIGHTS)
    prompts = resolve_prompts(params.sample.prompts, val.ids, trained.vocab)
    check_prompts(trained.vocab, prompts, "sample.prompts")
    parameters = _by_section(params, prompts)
    losses, cells = read_losses(paths.evaluate / "metrics.json"), read_cells(paths.evaluate / CELLS)
    baselines = read_baselines(paths.evaluate / BASELINES)
    texts = _generate(params.sample, prompts, trained)
    samples = pd.DataFrame(texts)
    validation_sha256 = text_sha256(val.first(params.evaluate.max_chars).ids, trained.vocab)
    published = published_for(
        validation_sha256, parameters["evaluate"]["published"], trained.vocab.unit
    )
    corpus_sha256 = read_sums(sums_of(paths.corpus)).get(paths.corpus.name, "")
    fallback = params.download.fallback
    is_fallback = fallback is not None and corpus_sha256 == fallback.sha256
    review = review_of(
        trained,
        train,
        val,
        tables,
        losses,
        texts,
        published=published,
        parameters=parameters,
        # Its name is no parameter of this stage, but in the path of an input.
        corpus=f"{paths.corpus.stem}-fallback" if is_fallback else paths.corpus.stem,
        corpus_sha256=corpus_sha256,
        validation_sha256=validation_sha256,
    )
    with atomic_folder(paths.samples) as folder:
        write_csv(folder / SAMPLES, samples)
        for index, row in enumerate(texts):
            (folder / file_name(index, row)).write_text(
                f"{row.prompt}{row.text}\n", "utf-8", newline=""
            )
        write_document(folder / DOCUMENT, review, indent=1)
        playground = playground_of(quantize(trained.model), trained.vocab)
        write_text(
            folder / PAGE, page_of(review, playground=playground, cells=cells, baselines=baselines)
        )
    publish_outputs(params, paths, has_samples=True)


def _by_section(params: Params, prompts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The parameters for the review: all but the corpus's source, whose hash says which it is; prompts as they were."""
    sections: dict[str, Section] = {
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
    asked = itertools.product(prompts, section.temperatures, section.seeds)
    common = Sampling(
        section.num_chars, top_k=section.top_k, top_p=section.top_p, min_p=section.min_p
    )
    requests = [
        Request(prompt, common._replace(temperature=temperature, seed=seed))
        for prompt, temperature, seed in asked
    ]
    texts = Sampler(trained.model, trained.vocab).generate(requests)
    return [
        SampleRow(prompt, how.temperature, how.top_k, how.top_p, how.min_p, how.seed, written.text)
        for (prompt, how, *_), written in zip(requests, texts, strict=True)
    ]


if __name__ == "__main__":
    sys.exit(stage.run(run))

"""Stage sample: model -> generated texts, for prompts x temperatures x seeds."""

import itertools
import re
import sys
import unicodedata
from collections.abc import Sequence

import pandas as pd

from charlstm.generation.sampler import SamplingRule, check_prompts, generate
from charlstm.model.model_folder import load_model
from charlstm.params import Params
from charlstm.storage.files import atomic_folder, sha256
from charlstm.tracking.runs import attach
from charlstm.training.history import read_tables, write_csv
from pipeline.common import provenance, stage
from pipeline.common.environment import environment
from pipeline.common.paths import Paths


def run(params: Params, paths: Paths) -> None:
    """Generate, write one file a text and one table of all, and add both to the model's MLflow run."""
    section = params.sample
    model, vocab, model_sha256 = load_model(paths.model, params.model.implementation)
    check_prompts(vocab, section.prompts)
    rows = []
    for prompt, temperature, seed in itertools.product(section.prompts, section.temperatures, section.seeds):
        rule = SamplingRule(temperature, section.top_k, section.top_p)
        text = generate(model, vocab, prompt, num_chars=section.num_chars, rule=rule, seed=seed)
        rows.append({"prompt": prompt, **rule._asdict(), "seed": seed, "text": text})
    samples = pd.DataFrame(rows)
    with atomic_folder(paths.samples) as folder:
        write_csv(folder / "samples.csv", samples)
        for index, row in enumerate(rows):
            (folder / _file_name(index, row)).write_text(f"{row['prompt']}{row['text']}\n", "utf-8", newline="")

    record = provenance.training_record(params, paths, read_tables(paths.train, paths.model))
    tracked = attach(provenance.store(), model_sha256, record)
    tracked.log_params(params.flat())
    name = f"samples/{sha256(paths.samples / 'samples.csv')[:8]}"  # a new folder for every set of texts
    for file in sorted(paths.samples.glob("*.txt")):
        tracked.log_file(file, name)
    tracked.log_table(f"{name}/samples.json", samples)
    provenance.log_lineage(tracked, "sample", paths, {**record.tags, **environment()})
    tracked.close()


def _file_name(index: int, row: dict[str, object]) -> str:
    """E.g. `02-romeo-temperature-0.8-seed-1.txt`: in the table's order, readable in a list."""
    return f"{index:02d}-{_words(str(row['prompt']))}-temperature-{row['temperature']}-seed-{row['seed']}.txt"


def _words(prompt: str) -> str:
    """A prompt as part of a file name, in ASCII, which every system can write.

    Letters lose their accents, those of other alphabets become code points, and the rest does where it is all there is.
    """
    plain = "".join(one for one in unicodedata.normalize("NFKD", prompt.lower()) if not unicodedata.combining(one))
    spelled = "".join(one if one.isascii() else _code_point(one) if one.isalnum() else "-" for one in plain)
    rest = "".join(_code_point(one) for one in prompt if not one.isascii())
    return _joined(spelled) or _joined(rest) or "newline"


def _joined(words: str) -> str:
    return re.sub(r"\W+", "-", words).strip("-")[:20]


def _code_point(character: str) -> str:
    return f"-u{ord(character):x}-"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())

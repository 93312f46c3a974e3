"""`import charlstm`: the names that are promised, and nothing that takes time."""

import re
import subprocess
import sys

import pytest

import charlstm
from benchmarks.projects import ROOT
from charlstm.language_model.model import Options
from charlstm.sampling import Sampling, SamplingOptions

PAGE = (ROOT / "docs/generate.md").read_text()


def test_the_public_names_are_those_of_the_documents() -> None:
    documented = set(re.findall(r"^\| `charlstm\.(\w+)", PAGE, re.MULTILINE))
    assert documented == set(charlstm.__all__) == set(dir(charlstm))
    assert len(documented) == 7
    for name in charlstm.__all__:
        assert getattr(charlstm, name) is getattr(charlstm, name)
    with pytest.raises(AttributeError, match="module 'charlstm' has no attribute 'lode'"):
        charlstm.lode  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(("name", "kind"), [("Model", charlstm.Model), ("Score", charlstm.Score)])
def test_the_public_methods_are_those_of_the_documents(name: str, kind: type) -> None:
    (row,) = re.findall(rf"^\| `charlstm\.{name}` \|(.*)\|$", PAGE, re.MULTILINE)
    documented = set(re.findall(r"`(\w+)`", row)) - {"score"} | ({"score"} if name == "Model" else set())
    attributes = {"text", "char_nats"} if name == "Score" else set()
    assert documented == {method for method in vars(kind) if not method.startswith("_")} | attributes


def test_every_option_is_documented() -> None:
    options = re.findall(r"^\| `(\w+)` \|", PAGE[PAGE.index("| option |") : PAGE.index("## Python")], re.MULTILINE)
    assert set(options) == {"num_texts", *Options.__annotations__} - {"state"}


def test_options_are_the_fields_of_a_rule() -> None:
    assert [*SamplingOptions.__annotations__] == [*Sampling._fields]


def test_the_import_alone_costs_nothing() -> None:
    code = "import sys; before = set(sys.modules); import charlstm; print(len(set(sys.modules) - before)); "
    code += "sys.exit(bool({'torch', 'numpy', 'mlflow', 'pandas', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"])
    assert done.returncode == 0


def test_loading_a_folder_needs_nothing_of_training_and_tracking(learned: object) -> None:
    heavy = {"mlflow", "pandas", "accelerate", "matplotlib", "pydantic", "torch._dynamo"}
    code = "import sys, charlstm; charlstm.load(sys.argv[1]).generate('The ', num_chars=5); "
    code += f"print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, str(learned)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr

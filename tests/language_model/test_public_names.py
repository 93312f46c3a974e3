"""`import charlstm`: the names that are promised, and nothing that takes time."""

import subprocess
import sys

from benchmarks.projects import ROOT


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

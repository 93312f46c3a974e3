"""Output files of commands: default names, replacement and protected places."""

from pathlib import Path

from tests.support.commands import Run

OWN = ("dvc.lock", "Datasets/shakespear.txt", "charlstm/params.py")
COMMANDS = (["export", "onnx"], ["review", "HEAD"])


def test_a_file_of_the_user_is_replaced_with_force_alone(run: Run, copy: Path) -> None:
    (copy / "notes.md").write_text("mine")
    for command in COMMANDS:
        code, _, err = run(*command, "-o", "notes.md")
        assert code == 2
        assert "already exists: choose another name, or pass --force to overwrite a file" in err
        assert (copy / "notes.md").read_text() == "mine"
    assert run("review", "--force", "HEAD", "-o", "notes.md")[0] == 0
    assert (copy / "notes.md").read_text() != "mine"


def test_a_link_is_replaced_and_not_its_target(run: Run, copy: Path, tmp_path: Path) -> None:
    target = tmp_path / "python"
    target.write_text("a program")
    (copy / "link").symlink_to(target)
    assert run("review", "HEAD", "-o", "link")[0] == 2
    assert run("review", "HEAD", "-o", "link", "--force")[0] == 0
    assert target.read_text() == "a program"
    assert not (copy / "link").is_symlink()


def test_a_file_of_the_project_is_never_replaced(run: Run, copy: Path) -> None:
    for name in OWN:
        before = (copy / name).read_bytes()
        code, _, err = run("review", "HEAD", "-o", name, "--force")
        assert code == 2 and "belongs to the project: choose another output path" in err
        assert (copy / name).read_bytes() == before


def test_nothing_is_written_where_dvc_would_remove_it(run: Run, copy: Path) -> None:
    code, _, err = run("review", "HEAD", "-o", "artifacts/samples/mine.html")
    assert code == 2 and "artifacts/samples belongs to the project" in err
    assert not (copy / "artifacts/samples/mine.html").exists()


def test_a_command_runs_twice_with_its_default_name(run: Run, copy: Path) -> None:
    for _ in range(2):
        assert run("review", "HEAD")[0] == 0
    assert (copy / "review.html").is_file()

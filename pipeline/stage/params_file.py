"""`params.yaml` as a text: values are replaced in it, and every other character stays as it is.

ruamel.yaml says where each value stands. Its round trip is not used for writing: it moves comments when a list or a
mapping takes the place of a word. What is written here has the form that DVC gives the file at `dvc exp run -S`.
So such an experiment changes the lines of its values alone.
"""

import io
import re
import stat
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode
from ruamel.yaml.scalarstring import FoldedScalarString

from charlstm.errors import ParamsError
from charlstm.files.atomic import write_text
from charlstm.files.documents import did_you_mean, load_yaml, parse_yaml, validate
from charlstm.params import Params
from pipeline.stage.project import PARAMS

WIDTH = 80  # columns: DVC folds what is longer


def with_values(text: str, values: Mapping[str, object]) -> str:
    """`text`, a YAML document, with other `values`, by dotted name. Comments stay.

    Raises:
        ParamsError: it has no such name; or values cannot be replaced one by one, since they share a line or an anchor.
    """
    expected = {name: _plain(value) for name, value in values.items()}
    edits = []
    root = YAML().compose(text)
    for name, value in expected.items():
        key, node = _find(root, name)
        edits.append(_edit(text, key, node, value))
    changed = text
    for start, end, lines in sorted(edits, reverse=True):
        changed = changed[:start] + lines + changed[end:]
    try:
        is_written = parse_yaml(changed) == replaced(parse_yaml(text), expected)
    except ValueError:
        is_written = False
    if not is_written:
        raise ParamsError(f"{PARAMS}: expected a value on each line, without anchors (&) and aliases (*): write it so")
    return changed


def params_with(values: Mapping[str, object]) -> tuple[str, Params]:
    """The text of `params.yaml` with other values, and the parameters in it.

    Raises:
        ParamsError: it cannot be read, lacks one of these names, or would have a mistake.
    """
    load_yaml(PARAMS)  # says in one line why it cannot be read
    changed = with_values(PARAMS.read_text(encoding="utf-8"), values)
    return changed, validate(Params, parse_yaml(changed), PARAMS)


def write_params(text: str) -> None:
    """Write `params.yaml` in the way it is there: a link stays one, and its mode and line ends stay."""
    file = PARAMS.resolve()
    mode, content = file.stat().st_mode, file.read_bytes()
    write_text(file, text.replace("\n", "\r\n") if b"\r\n" in content else text)
    file.chmod(stat.S_IMODE(mode))


def _find(root: Node | None, name: str) -> tuple[Node, Node]:
    """The nodes of the last part of `name` and of its value."""
    key = node = root
    for part in name.split("."):
        pairs = node.value if isinstance(node, MappingNode) else []
        key, node = next(((key, value) for key, value in pairs if key.value == part), (None, None))
        if key is None or node is None:
            names = [str(key.value) for key, _ in pairs]
            raise ParamsError(f"{PARAMS}: {name} is missing{did_you_mean(part, names)}")
    assert key is not None and node is not None
    return key, node


def _edit(text: str, key: Node, node: Node, value: object) -> tuple[int, int, str]:
    """The span of a key and its value, with the comment in its line, and the text that is to stand there."""
    start, after_key = key.start_mark.index, key.end_mark.index + len(":")
    end = max(after_key, _end(text, node))
    is_block = node.style in ("|", ">") if isinstance(node, ScalarNode) else not getattr(node, "flow_style", False)
    comment_from = end if node.start_mark.line == key.start_mark.line and not is_block else after_key
    line_end = comment_from + len(text[comment_from:].partition("\n")[0])
    comment = re.search(r"(?<=\s)#.*$", text[comment_from:line_end])
    first, *rest = _rendered(str(key.value), value, key.start_mark.column)
    if comment is not None:
        first = f"{first}  {comment[0]}"
    return start, max(end, line_end), "\n".join([first, *rest])


def _end(text: str, node: Node) -> int:
    """Behind the last character of a value; 0 where none is written."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        if isinstance(last, tuple):
            key, value = last
            return max(int(key.end_mark.index) + len(":"), _end(text, value))
        return _end(text, last)
    if isinstance(node, ScalarNode) and node.value == "" and not node.style:
        return 0
    begin: int = node.start_mark.index
    return begin + len(text[begin : node.end_mark.index].rstrip())


def _rendered(key: str, value: object, indent: int) -> list[str]:
    """`key: value` as lines, of which all but the first are indented."""
    yaml = YAML()
    yaml.default_flow_style, yaml.width = False, 10**6
    stream = io.StringIO()
    yaml.dump({key: _folded(value, indent, indent + len(f"{key}: "))}, stream)
    first, *rest = stream.getvalue().rstrip("\n").split("\n")
    return [first.rstrip(), *(" " * indent + line if line else line for line in rest)]


def _folded(value: object, indent: int, column: int) -> object:
    """Long texts as folded scalars, which DVC leaves as they are. A value begins at `column`, its lines at `indent`."""
    if isinstance(value, Mapping):
        return {name: _folded(inner, indent + 2, indent + len(f"  {name}: ")) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_folded(inner, indent, indent + len("- ")) for inner in value]
    if isinstance(value, str) and column + len(value) > WIDTH and value.isprintable() and value == value.strip():
        return FoldedScalarString(value)
    return value


def replaced(document: Any, values: Mapping[str, object]) -> Any:  # noqa: ANN401  # a YAML document
    """The same `document`, changed to have other values, by dotted name.

    A name that it lacks is added, for its schema to refuse.
    """
    for name, value in values.items():
        *sections, last = name.split(".")
        section = document
        for part in sections:
            section = section.setdefault(part, {})
        section[last] = value
    return document


def _plain(value: object) -> object:
    """The value with lists instead of tuples, as YAML has them."""
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value

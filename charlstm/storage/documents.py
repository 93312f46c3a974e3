"""YAML and JSON documents, which anybody may have written: whatever is in them, reading ends soon, or with one line."""

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent

from charlstm.storage.files import open_regular

# Far above what is written here: our largest YAML file has 20 kB and 2,000 values, and all of Unicode as a
# vocabulary 20 MB.
MAX_YAML_BYTES, MAX_JSON_BYTES = 500_000, 100_000_000
MAX_VALUES, MAX_DEPTH = 20_000, 50


def read_yaml(path: Path) -> Any:  # noqa: ANN401  # a document can be anything; who reads it looks
    """The document in `path`, read as YAML 1.2; its aliases may not multiply it beyond bounds.

    Raises:
        OSError: it cannot be read.
        ValueError: not YAML, or too much of it; the message says what is wrong, in one line.
    """
    return parse_yaml(_read(path, MAX_YAML_BYTES))


def parse_yaml(text: str) -> Any:  # noqa: ANN401  # likewise
    """The document in `text`, likewise.

    Raises:
        ValueError: not YAML, or too much of it.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _BoundedComposer  # type: ignore[assignment]  # declared as the class that it is at first
    if len(text) > MAX_YAML_BYTES:
        raise ValueError(f"expected at most {MAX_YAML_BYTES:,} bytes")
    try:
        return yaml.load(text)
    except YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())[:300]}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # of a date, a number, a tag
        raise ValueError(f"not valid YAML: a value that cannot be read: {' '.join(str(error).split())[:100]}") from None


def read_json(path: Path) -> Any:  # noqa: ANN401  # likewise
    """The document in `path`, in strict JSON: no NaN, no infinity.

    Raises:
        OSError: it cannot be read.
        ValueError: not JSON, or too much or too deep.
    """
    try:
        return json.loads(_read(path, MAX_JSON_BYTES), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _read(path: Path, max_bytes: int) -> str:
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"expected at most {max_bytes:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("expected UTF-8") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


class _BoundedComposer(Composer):
    """Counts what it composes, an alias as all that it stands for: a few of them can stand for billions."""

    def __init__(self, loader: Any) -> None:  # noqa: ANN401  # as ruamel.yaml has it
        super().__init__(loader)
        self._level = self._num_values = 0
        self._sizes: dict[int, int] = {}  # by the node's id; all nodes live as long as the document

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401  # as ruamel.yaml has it
        """The next value, a node of YAML's."""
        event, before = self.parser.peek_event(), self._num_values
        self._check(self._level < MAX_DEPTH, f"values nested more than {MAX_DEPTH} deep", event)
        self._level, self._num_values = self._level + 1, before + 1
        node = super().compose_node(parent, index)
        self._level -= 1
        if isinstance(event, AliasEvent):
            self._check(id(node) in self._sizes, "an alias of what it is part of", event)
            self._num_values = before + self._sizes[id(node)]
        self._sizes[id(node)] = self._num_values - before
        self._check(self._num_values <= MAX_VALUES, f"more than {MAX_VALUES:,} values, aliases written out", event)
        return node

    def _check(self, is_met: bool, found: str, event: Any) -> None:  # noqa: ANN401  # an event of ruamel.yaml's
        if not is_met:
            raise MarkedYAMLError(problem=f"found {found}", problem_mark=event.start_mark)

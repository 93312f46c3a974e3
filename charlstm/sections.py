"""Sections of parameters: frozen, strict, and known by what decides a result."""

from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict


class Off(NamedTuple):
    """Marks a parameter with the value at which it has no effect."""

    value: object


class Section(BaseModel):
    """A mapping whose keys are all required, all known, and never converted."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    def decisive(self) -> dict[str, Any]:
        """What decides a result, for fingerprints: all values but those that are off.

        So a parameter that is new, and off, leaves the fingerprints of earlier results as they are.
        """
        found = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            is_off = any(isinstance(mark, Off) and mark.value == value for mark in field.metadata)
            decisive = _decisive(value)
            if not is_off and not (isinstance(value, Section) and decisive == {}):
                found[name] = decisive
        return found


def _decisive(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_decisive(one) for one in value)
    return value.decisive() if isinstance(value, Section) else value

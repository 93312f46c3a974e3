"""Any text as HTML that shows it and obeys none of it: no tag, no control character, no change of direction.

Control characters, marks of direction, and what Unicode has not assigned are shown as code points. They
could hide text otherwise, or rearrange the page around them.
"""

import unicodedata

from markupsafe import Markup, escape

SHOWN = "\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # layout, and parts of emoji and of words
HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
RETURN, TAB = "\N{RETURN SYMBOL}", "\N{RIGHTWARDS ARROW TO BAR}"


def visible(text: str) -> Markup:
    """`text` as HTML; line breaks stay line breaks, for an element that keeps them."""
    names = {ord(one): f'<span class="control">{symbol(one)}</span>' for one in set(text) if is_hidden(one)}
    return Markup(str(escape(text)).translate(names))


def visible_prompt(text: str) -> Markup:
    """The same with its line breaks to be seen: a prompt is often nothing else."""
    return Markup(str(visible(text)).replace("\n", f'<span class="control">{RETURN}</span>\n'))


def one_line(text: str, most: int = 60) -> str:
    """`text` as plain text in one line, cut to `most` characters; to be escaped."""
    cut = text if len(text) <= most else text[:most] + ELLIPSIS
    plain = "".join(f"[{symbol(one)}]" if is_hidden(one) else one for one in cut)
    return plain.replace("\n", RETURN).replace("\t", TAB)


def is_hidden(character: str) -> bool:
    """Whether a browser would show nothing, or another order of what is around it."""
    return character not in SHOWN and unicodedata.category(character) in HIDDEN_CATEGORIES


def symbol(character: str) -> str:
    """E.g. `U+202E`; few fonts have the symbols for control characters."""
    return f"U+{ord(character):04X}"

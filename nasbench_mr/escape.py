"""Text that comes from data, made harmless for the place where it is shown: one function for each place.

A task's title, a release's description or a file's name may hold anything: quotes that end a string of Python
source, HTML, or control characters that a terminal obeys.
"""

from __future__ import annotations

import html
import re
from urllib.parse import SplitResult, urlsplit

#: What would end a table's cell or begin code, a link or HTML.
_MARKDOWN = re.compile(r"[\\|`<>\[\]]")
#: How a line begins that is a heading, a list or a rule.
_BLOCKS = ("#", "-", "+", "*", "=", "~")


def terminal(text: str) -> str:
    """Return text without what a terminal obeys: control characters, and marks that turn its direction.

    Line breaks and tabs stay; the others show as Python writes them, such as \\x1b.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else _written(c) for c in text)


def python(text: str) -> str:
    """Return text as it is written between quotes, of any kind, in Python source."""
    return "".join(f"\\{c}" if c in "\\'\"" else c if c.isprintable() else _written(c) for c in text)


def markdown(text: str) -> str:
    """Return text as one line of Markdown, also in a table's cell, that shows what it is."""
    line = _MARKDOWN.sub(lambda found: f"\\{found[0]}", " ".join(terminal(text).split()))
    return f"\\{line}" if line.startswith(_BLOCKS) else line


def markup(text: str) -> str:
    """Return text for HTML, also in an attribute's value."""
    return html.escape(terminal(text), quote=True)


def address(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query and fragment."""
    parts = _split(url)
    if parts is None or not parts.netloc:
        return terminal(url.partition("?")[0].partition("#")[0].rpartition("@")[2])
    hidden = "?..." if parts.query else ""
    return terminal(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{hidden}")


def without_secrets(text: str, url: str) -> str:
    """Return text, such as the message of an error about a URL, without what `address` leaves out of it."""
    text = text.replace(url, address(url))
    parts = _split(url)
    if parts is None:
        return text
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    values = [value for pair in parts.query.split("&") for value in pair.split("=", 1)[1:]]
    for secret in filter(None, (parts.query, parts.fragment, user, password, *values)):
        if len(secret) > 2:
            text = text.replace(secret, "...")
    return text


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _written(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")

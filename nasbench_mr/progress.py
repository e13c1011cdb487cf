"""A line about work that takes a while and has no bar of its own."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

#: Seconds before the line shows.
PATIENCE = 1.0


@contextlib.contextmanager
def line(text: str) -> Iterator[None]:
    """Say on stderr what is being done, and for how long, until the block ends.

    Nothing shows where stderr is not a terminal, nor for work that ends within `PATIENCE` seconds.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    shown = threading.Thread(target=_show, args=(text, done), daemon=True)
    shown.start()
    try:
        yield
    finally:
        done.set()
        shown.join()


def _show(text: str, done: threading.Event) -> None:
    begin, width = time.monotonic(), 0
    while not done.wait(PATIENCE):
        now = f"{text} ... {time.monotonic() - begin:.0f} s"
        width = max(width, len(now))
        sys.stderr.write(f"\r{now}")
        sys.stderr.flush()
    if width:
        sys.stderr.write(f"\r{' ' * width}\r")
        sys.stderr.flush()

"""The question whether a server answers, for targets that ask by a command of its image."""

from __future__ import annotations

from typing import Final

from .container import Container

PERIOD_SECONDS: Final = 15
ANSWER_SECONDS: Final = 5
RESTART_SECONDS: Final = 10
"""Between an end and the next start."""
STARTS: Final = 3
"""Within the time in which they could all have failed; no more are tried, as they fail alike."""


def question(container: Container) -> str:
    """A line of Python that fails where nothing answers; every vLLM has a Python beside it."""
    return f'import urllib.request as r; r.urlopen("{container.health}", timeout={ANSWER_SECONDS})'


def looks(seconds: int) -> int:
    """How many looks in a row make so many seconds."""
    return max(1, -(-seconds // PERIOD_SECONDS))


def starts_window(container: Container) -> int:
    """Seconds in which so many starts are all that may be: longer than they take to fail."""
    return (STARTS + 1) * (container.start_seconds + RESTART_SECONDS)

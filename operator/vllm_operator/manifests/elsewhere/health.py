"""The question whether a server answers, for targets that ask by a command of its image."""

from __future__ import annotations

from typing import Final

from vllm_operator.api.base import PORT

from .container import Container

LOCAL: Final = "127.0.0.1"
"""The address of this machine for itself, at which alone a server listens until it is changed."""
HEALTH: Final = "/health"

PERIOD_SECONDS: Final = 15
ANSWER_SECONDS: Final = 5
RESTART_SECONDS: Final = 10
"""Between an end and the next start."""
STARTS: Final = 3
"""Within the time in which they could all have failed; no more are tried, as they fail alike."""


def question() -> str:
    """A line of Python that fails where nothing answers; every vLLM has a Python beside it.

    It asks no proxy: the engine's variables may name one.
    """
    return (
        f'import http.client as h; c = h.HTTPConnection("{LOCAL}", {PORT}, '
        f'timeout={ANSWER_SECONDS}); c.request("GET", "{HEALTH}"); '
        "raise SystemExit(c.getresponse().status != 200)"
    )


def address() -> str:
    """Where it answers once the model is loaded."""
    return f"http://{LOCAL}:{PORT}{HEALTH}"


def looks(seconds: int) -> int:
    """How many looks in a row make so many seconds."""
    return max(1, -(-seconds // PERIOD_SECONDS))


def starts_window(container: Container) -> int:
    """Seconds in which so many starts are all that may be: longer than they take to fail."""
    return (STARTS + 1) * (container.start_seconds + RESTART_SECONDS)

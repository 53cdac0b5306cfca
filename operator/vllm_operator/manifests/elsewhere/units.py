"""The parts of a unit file of systemd."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from .container import Container
from .health import RESTART_SECONDS, STARTS, starts_window
from .quoting import continued, lines, systemd_word

Entry = tuple[str, str]
"""A key and its value as it is written."""

MIXED: Final = ("KillMode", "mixed")
"""The engine is told to stop and ends its workers; what is left after the grace is killed."""


def unit(head: str, sections: Mapping[str, Sequence[Entry]]) -> str:
    """A unit file below its comments."""
    found = [head.rstrip("\n")]
    for name, entries in sections.items():
        found.append("\n".join([f"[{name}]", *(f"{key}={value}" for key, value in entries)]))
    return "\n\n".join(found) + "\n"


def introduced(container: Container, model: str) -> list[Entry]:
    """The section ``Unit`` of a server."""
    return [
        ("Description", f"vLLM server {container.name}: {model}".replace("%", "%%")),
        ("Wants", "network-online.target"),
        ("After", "network-online.target"),
        ("StartLimitIntervalSec", f"{starts_window(container)}"),
        ("StartLimitBurst", f"{STARTS}"),
    ]


def restarting(container: Container, margin: int = 0) -> list[Entry]:
    """How long starts and stops (and ``margin`` more) may take, and what follows an end."""
    return [
        ("Restart", "always"),
        ("RestartSec", f"{RESTART_SECONDS}"),
        ("TimeoutStartSec", f"{container.start_seconds}"),
        ("TimeoutStopSec", f"{container.stop_seconds + margin}"),
        MIXED,
    ]


def environment(variables: Mapping[str, str], *, expands: bool) -> list[Entry]:
    """Variables, one a line."""
    return [
        ("Environment", systemd_word(f"{name}={value}", expands=expands))
        for name, value in variables.items()
    ]


def command(before: Iterable[str], arguments: Sequence[str]) -> str:
    """A command line over several lines."""
    spelt = lines(arguments, lambda text: systemd_word(text, expands=True))
    return continued([" ".join([*before, *spelt[:1]]), *spelt[1:]])

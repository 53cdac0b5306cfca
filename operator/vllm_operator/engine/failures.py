"""Why an engine did not start: known failures, read from logs and from what Kubernetes reports.

``failures.csv`` holds a regular expression each, with where it is seen, the numbers it names, what
it means and what to do about it. Kubernetes and container runtimes name a cause last, after names
of any length: rows for their texts keep the end. Where several fit a log, the row is chosen in
three steps:

1. The first in the file's order that is neither weak nor a consequence: it only fits what an engine
   dies of.
2. Else the weak row that fits nearest to the log's end. Weak rows also fit warnings of starts that
   go well, such as huggingface_hub's of a Hub that it does not reach although the cache has all.
   They count only from the log's first ``Traceback (most recent call last)`` on, where it has one:
   what stands before was survived.
   A row that explains another reason, as why the Hub is not reached, is as near as what that reason
   says further down.
3. Else the first consequence, which only says that something else went wrong further up.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, cast

from .tables import rows_for
from .versions import Version

Seen = Literal["log", "termination", "waiting", "scheduling", "deployment", "failed", "event"]
"""Where a text comes from: the engine's log; how its container ended, as ``ended`` writes it; why
the container or the scheduler or the Deployment waits, why the node ended the whole pod, or an
event of the pod with its reason, in Kubernetes' words."""

RepairKind = Literal["none", "shorterMaxModelLen", "lowerUtilization", "fewerSequences"]

Row = Mapping[str, str]

TABLE: Final = "failures.csv"
TRACEBACK: Final = "Traceback (most recent call last)"
VALUE_LIMIT: Final = 300
"""Characters of a log that a message repeats at most."""

CONSEQUENCES: Final = ("Engine core initialization failed", "WorkerProc initialization failed")
"""Errors whose cause stands further up in the log."""

_ERROR = re.compile(r"(?:^|[\]\s])((?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b: .+)$")
_TOKEN = re.compile(r"\bhf_\w{8,}")


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure to start, in words and numbers."""

    reason: str
    """Reason for conditions."""
    means: str
    """What is wrong, with the numbers."""
    remedy: str
    """What to do, naming the field."""
    field: str = ""
    """Path in the manifest that mends it; empty where none does."""
    passes: bool = True
    """Whether it may pass without an edit of the server."""
    repair: RepairKind = "none"
    """The change of the plan that may mend it, where what it changes is not pinned."""
    after: int = 1
    """Ends of the container before a repair: what may pass by itself is given a second start."""
    weak: bool = False
    """Whether more of the log may tell another: by a weak row or a consequence."""
    numbers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the text said, by the names in the table."""

    @property
    def message(self) -> str:
        """What is wrong and what to do."""
        return f"{self.means}; {self.remedy}"


def known_failure(seen: Seen, text: str, version: Version) -> Failure | None:
    """What the table knows ``text`` to show of that vLLM, or None (the module says which row)."""
    rows = [row for row in rows_for(TABLE, version) if seen in row["seen"].split(";")]
    found = (
        _first([row for row in rows if row["weak"] == "no" and row["consequence"] == "no"], text)
        or _nearest_the_end([row for row in rows if row["weak"] == "yes"], text)
        or _first([row for row in rows if row["consequence"] == "yes"], text)
    )
    return None if found is None else _failure(*found, version)


def _first(rows: Sequence[Row], text: str) -> tuple[Row, re.Match[str]] | None:
    for row in rows:
        match = _compiled(row["fragment"]).search(text)
        if match is not None:
            return row, match
    return None


def _nearest_the_end(rows: Sequence[Row], text: str) -> tuple[Row, re.Match[str]] | None:
    start = max(0, text.find(TRACEBACK))
    found = [
        (row, match) for row in rows for match in _compiled(row["fragment"]).finditer(text, start)
    ]
    said = {row["reason"]: 0 for row in rows}
    for row, match in found:
        if not row["explains"]:
            said[row["reason"]] = max(said[row["reason"]], match.end())

    def near(one: tuple[Row, re.Match[str]]) -> tuple[int, bool, int]:
        row, match = one
        end = max(match.end(), said.get(row["explains"], 0))
        return end, bool(row["explains"]), match.end()

    return max(found, key=near, default=None)


def _failure(row: Row, match: re.Match[str], version: Version) -> Failure:
    numbers = {name: shown(value) for name, value in match.groupdict().items() if value is not None}
    values = {"version": str(version), **numbers}
    return Failure(
        reason=row["reason"],
        means=row["means"].format_map(values),
        remedy=row["remedy"].format_map(values),
        field=row["field"],
        passes=row["passes"] == "yes",
        repair=cast(RepairKind, row["repair"]),
        after=int(row["after"]),
        weak="yes" in (row["weak"], row["consequence"]),
        numbers=numbers,
    )


def unknown_failure(text: str, ending: str) -> Failure:
    """A failure that the table does not know: how the engine ended, and the last error it wrote."""
    error = last_error(text)
    said = f"; its last error: {error}" if error else ""
    return Failure(
        reason="EngineFailed",
        means=f"the engine ended with {ending}{said}",
        remedy="its log says more (kubectl logs --previous)",
    )


def ended(exit_code: int, reason: str, message: str) -> str:
    """How a container ended, as ``known_failure`` reads it; ``message`` may be empty."""
    text = f"exit code {exit_code}, reason {reason or 'Error'}"
    return f"{text}, message {message}" if message else text


def last_error(text: str) -> str | None:
    """The last error of a log that is no mere consequence of another one."""
    fallback = None
    for line in reversed(text.splitlines()):
        match = _ERROR.search(line.rstrip())
        if match is None:
            continue
        if not any(consequence in line for consequence in CONSEQUENCES):
            return shown(match[1])
        fallback = fallback or shown(match[1])
    return fallback


def shown(value: str) -> str:
    """What a message repeats of a log: one line, bounded, and no token of the Hub."""
    line = _TOKEN.sub("hf_…", " ".join(value.split()).rstrip(".,"))
    return line if len(line) <= VALUE_LIMIT else f"{line[: VALUE_LIMIT - 1]}…"


@lru_cache(maxsize=256)
def _compiled(fragment: str) -> re.Pattern[str]:
    return re.compile(fragment)

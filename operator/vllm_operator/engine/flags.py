"""The flags of ``vllm serve`` by version: which exist, what they take, and what took their place.

``flags.csv`` and ``choices.csv`` hold what vLLM's own parsers say of themselves. Reading follows
``FlexibleArgumentParser`` (vllm ``utils/argparse_utils.py``): ``_`` for ``-``, ``--flag=value``,
and every beginning of a flag's name that no other flag has.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .tables import rows, rows_for
from .versions import Version

SWITCH: Final = "switch"
VALUE: Final = "value"
VALUES: Final = "values"


@dataclass(frozen=True, slots=True)
class ServeFlag:
    """One spelling of a flag in one version."""

    spelling: str
    """As on a command line: ``--max-num-seqs``, ``-tp``, ``--no-enable-prefix-caching``."""
    name: str
    """The flag's first long spelling."""
    takes: str
    """``switch``, ``value``, ``values``, or empty where nobody has looked."""
    choices: tuple[str, ...]
    """The values that are accepted; empty where any is that reads as the flag's type."""

    @property
    def negative(self) -> bool:
        """Whether this spelling of a switch turns it off.

        ``--no-x``, and from 0.33 on ``--disable-x`` of ``--enable-x`` and the other way round
        (0.33.0 ``utils/argparse_utils.py``, ``EnableDisableAction``).
        """
        if self.spelling.startswith("--no-"):
            return not self.name.startswith("--no-")
        turned = {"--enable-": "--disable-", "--disable-": "--enable-"}
        return any(
            self.name.startswith(one) and self.spelling.startswith(other)
            for one, other in turned.items()
        )


@lru_cache(maxsize=64)
def serve_flags(version: Version) -> Mapping[str, ServeFlag]:
    """Every spelling that ``vllm serve`` of a version accepts."""
    choices: dict[str, list[str]] = {}
    for row in rows_for("choices.csv", version):
        choices.setdefault(row["flag"], []).append(row["value"])
    found = {}
    for row in rows_for("flags.csv", version):
        name = row["name"] or row["flag"]
        own = () if row["takes"] == SWITCH else tuple(choices.get(name, ()))
        found[row["flag"]] = ServeFlag(row["flag"], name, row["takes"], own)
    return found


def find(argument: str, version: Version) -> ServeFlag | None:
    """The flag that an argument gives, also abbreviated; None where the parser refuses it."""
    spelling = argument.partition("=")[0]
    if spelling.startswith("--"):
        spelling = spelling.replace("_", "-")
    known = serve_flags(version)
    if spelling in known:
        return known[spelling]
    # A dotted key gives part of a JSON value: --compilation-config.mode.
    whole, dot, _ = spelling.partition(".")
    if dot:
        return known.get(whole)
    if not spelling.startswith("--"):
        # -O3: a value that follows without a space, and from 0.12 on a word of its own.
        return known.get(spelling[:2]) or (
            known.get("--optimization-level") if spelling.startswith("-O") else None
        )
    meant = [flag for flag in known.values() if flag.spelling.startswith(spelling)]
    return meant[0] if len(meant) == 1 else None


def refusal(argument: str, version: Version) -> str | None:
    """Why a version's parser refuses a flag, and what to do; None where it accepts it."""
    if find(argument, version) is not None:
        return None
    spelling = argument.partition("=")[0].replace("_", "-")
    for row in rows("replaced_flags.csv"):
        if row["flag"] == spelling:
            return f"vLLM {version} does not have {spelling}; {row['remedy']}"
    spans = [row for row in rows("flags.csv") if row["flag"] == spelling]
    if spans:
        first = spans[0]["since"]
        if version.release < Version.parse(first).release:
            return f"vLLM {version} does not have {spelling}, which came with {first}; remove it"
        return f"vLLM {version} does not have {spelling} any more; remove it"
    near = difflib.get_close_matches(spelling, serve_flags(version), n=1)
    hint = f"the nearest is {near[0]}" if near else "remove it"
    return f"vLLM {version} does not have {spelling}; {hint}"


def problems(arguments: Sequence[str], version: Version) -> list[str]:
    """What the parser of a version has against the arguments after ``vllm serve``.

    One text for each problem: a flag that it does not have, a value that is missing, too much, or
    no choice. Whether a value reads as a number is not checked.
    """
    found = []
    takes, flag = VALUE, None  # the first positional argument is the model
    for argument in arguments:
        if takes == VALUE and not _is_flag(argument):
            found += _choice_problem(flag, argument)
            takes, flag = "", None
        elif takes == VALUES and not _is_flag(argument):
            found += _choice_problem(flag, argument)
        elif not _is_flag(argument):
            found.append(f"{argument} follows nothing that takes a value")
        else:
            if takes == VALUE and flag is not None:
                found.append(f"{flag.spelling} has no value")
            takes, flag, more = _next(argument, version)
            found += more
    if takes == VALUE and flag is not None:
        found.append(f"{flag.spelling} has no value")
    return found


def _next(argument: str, version: Version) -> tuple[str, ServeFlag | None, list[str]]:
    flag = find(argument, version)
    if flag is None:
        return "", None, [refusal(argument, version) or argument]
    _, given, value = argument.partition("=")
    if not given:
        return flag.takes, flag, []
    if flag.takes == SWITCH:
        return "", None, [f"{flag.spelling} takes no value"]
    return "", None, _choice_problem(flag, value)


def _choice_problem(flag: ServeFlag | None, value: str) -> list[str]:
    if flag is None or not flag.choices or value in flag.choices:
        return []
    return [f"{flag.spelling} {value} is none of {', '.join(flag.choices)}"]


def _is_flag(argument: str) -> bool:
    """As argparse tells them: a negative number is a value."""
    if not argument.startswith("-") or argument == "-":
        return False
    try:
        float(argument)
    except ValueError:
        return True
    return False

"""How each format spells a text so that its reader gets it back whole."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import yaml

PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_ESCAPES: Final = {
    "\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "%": "%%",
}  # fmt: skip


def systemd_word(text: str, *, expands: bool) -> str:
    """A word of a unit (systemd.syntax(7), systemd.service(5), "Command lines").

    ``%`` begins a specifier in every value; ``$`` a variable where the value ``expands``, which
    command lines do and ``Environment=`` does not.
    """
    if PLAIN_WORD.fullmatch(text):
        return text
    spelt = "".join(_spelt(one, expands) for one in text)
    return f'"{spelt}"'


def _spelt(one: str, expands: bool) -> str:
    if one == "$":
        return "$$" if expands else "$"
    if one in _ESCAPES:
        return _ESCAPES[one]
    return f"\\x{ord(one):02x}" if ord(one) < 0x20 or ord(one) == 0x7F else one


def systemd_raw(text: str) -> str:
    """A value that is taken as it stands and ends on a command line: no quotes are removed."""
    return text.replace("%", "%%").replace("$", "$$")


def shell_word(text: str) -> str:
    """A word of a POSIX shell."""
    return shlex.quote(text)


def interpolated(value: Any) -> Any:
    """A value of a compose file, whose reader replaces ``$NAME`` in every text: ``$$`` is one."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: interpolated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item) for item in value]
    return value


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 may read as anything but a text."""


_NO_TEXT: Final = re.compile(r"[-+]?\.?[0-9].*|[-+]?\.(inf|nan)|[~yn]|yes|no|on|off", re.I | re.S)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = '"' if _NO_TEXT.fullmatch(value) or not value.isprintable() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(document: Any) -> str:
    """A document, keys in their order."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True))


def lines(arguments: Sequence[str], spell: Callable[[str], str]) -> list[str]:
    """Arguments as lines: a flag with its value on one."""
    found: list[str] = []
    for argument in arguments:
        before = found[-1] if found else ""
        takes = before.startswith("--") and " " not in before and "=" not in before
        if takes and not argument.startswith("-"):
            found[-1] = f"{before} {spell(argument)}"
        else:
            found.append(spell(argument))
    return found


def continued(parts: Iterable[str]) -> str:
    """Lines that are one, in units as in scripts."""
    return " \\\n  ".join(parts)

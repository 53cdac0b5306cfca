"""Asks vLLM's own argument parser; run by the interpreter of an environment.

The parser is taken from where `vllm serve` takes it (`vllm/entrypoints/cli/serve.py` of 0.8.3 and
later), so the checks after parsing are vLLM's, too.

Standard input: a JSON list of argument vectors (`["serve", …]`). The last line of standard output:
a JSON object with the `version`; its `flags`, each with all of its spellings, what it takes, its
choices, type and default; and `refusals`, which for each vector has null where it is accepted, else
what is wrong with it. Importing vLLM is nearly all of the time that this takes, so it is one call
for all.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import sys
from typing import Any
from unittest.mock import MagicMock

# Nothing here computes, so no version may go looking for a device.
os.environ["VLLM_TARGET_DEVICE"] = "cpu"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

STANDS_IN = os.environ.get("PARSE_STANDS_IN") == "1"
"""Whether a module that the vLLM at hand imports and this environment lacks is made up: a release
may need what the one before it did not, and nothing of a parser computes with it."""


def load() -> Any:
    """vLLM's module of `vllm serve`."""
    while True:
        try:
            return importlib.import_module("vllm.entrypoints.cli.serve")
        except ModuleNotFoundError as missing:
            name = missing.name or "vllm"
            if not STANDS_IN or name.partition(".")[0] == "vllm" or name in sys.modules:
                raise
            sys.stderr.write(f"{name} is not installed here, and made up\n")
            sys.modules[name] = MagicMock(__spec__=None, __path__=[])


serve = load()
vllm = sys.modules["vllm"]

try:
    from vllm.utils.argparse_utils import (  # type: ignore[import-not-found]
        FlexibleArgumentParser,
    )
except ImportError:  # before 0.11.1
    from vllm.utils import FlexibleArgumentParser  # type: ignore[import-not-found]


def build() -> tuple[Any, Any, Any]:
    """The parser of `vllm`, its subparser `serve`, and the command that checks what is parsed."""
    parser = FlexibleArgumentParser(prog="vllm")
    (command,) = serve.cmd_init()
    subparsers = parser.add_subparsers(dest="subparser", required=True)
    return parser, command.subparser_init(subparsers), command


def takes(action: argparse.Action) -> str:
    """What follows a flag: nothing ("switch"), one value, or several ("values")."""
    if action.nargs == 0:
        return "switch"
    return "values" if action.nargs in ("*", "+") else "value"


def kind(action: argparse.Action) -> str:
    """The name of what reads a flag's value; empty for a switch and for plain text."""
    if action.nargs == 0 or action.type in (None, str):
        return ""
    return getattr(action.type, "__name__", type(action.type).__name__).strip("_")


def default(action: argparse.Action) -> str:
    """A flag's default as text: JSON where it is a plain value, else the name of its class."""
    try:
        return json.dumps(action.default)
    except TypeError:
        return type(action.default).__name__


def describe(parser: Any) -> list[dict[str, Any]]:
    """Every flag, in the parser's order, with every spelling that is accepted, hidden or not."""
    spellings: dict[int, list[str]] = {}
    for spelling, action in parser._option_string_actions.items():
        spellings.setdefault(id(action), []).append(spelling)
    return [
        {
            "spellings": spellings[id(action)],
            "takes": takes(action),
            "choices": sorted(map(str, action.choices)) if action.choices else [],
            "type": kind(action),
            "default": default(action),
        }
        for action in parser._actions
        if id(action) in spellings
    ]


def problem(parser: Any, command: Any, arguments: list[str]) -> str | None:
    """What the parser has against these arguments."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            command.validate(parser.parse_args(arguments))
    except SystemExit:
        return said.getvalue().strip().rpartition("error: ")[2] or "it exits"
    except (ValueError, TypeError, SyntaxError, argparse.ArgumentError) as refusal:
        return str(refusal)
    return None


def main() -> None:
    """Answers standard input on standard output."""
    parser, subparser, command = build()
    answer = {
        "version": vllm.__version__,
        "flags": describe(subparser),
        "refusals": [problem(parser, command, vector) for vector in json.load(sys.stdin)],
    }
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()

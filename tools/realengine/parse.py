"""Asks vLLM's own argument parser; run by the interpreter of an environment.

The parser is taken from where `vllm serve` takes it (`vllm/entrypoints/cli/serve.py` of 0.8.3 and
later), so the checks after parsing are vLLM's, too.

Standard input: a JSON list of argument vectors (`["serve", …]`). The last line of standard output:
a JSON object with the `version`; its `flags`, each with all of its spellings, what it takes, and
its choices; and `refusals`, which for each vector has null where it is accepted, else what is wrong
with it. Importing vLLM is nearly all of the time that this takes, so it is one call for all.
"""

import argparse
import contextlib
import io
import json
import os
import sys
from typing import Any

# Nothing here computes, so no version may go looking for a device.
os.environ["VLLM_TARGET_DEVICE"] = "cpu"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

import vllm  # type: ignore[import-not-found]
from vllm.entrypoints.cli import serve  # type: ignore[import-not-found]

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


def describe(parser: Any) -> list[dict[str, Any]]:
    """Every flag, in the parser's order."""
    return [
        {
            "spellings": list(action.option_strings),
            "takes": takes(action),
            "choices": sorted(map(str, action.choices)) if action.choices else [],
        }
        for action in parser._actions
        if action.option_strings
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

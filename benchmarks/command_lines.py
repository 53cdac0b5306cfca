"""How many planned command lines each vLLM version refuses: none, if all is well.

Versions whose real argument parser is installed (`make engine`) are asked themselves; the others
are checked against the tables of flags and choices, which hold what their parsers said.

Columns: version; by what its command lines were checked; how many different ones; how many were
refused. Ends with status 1 if any was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from realengine.commandlines import command_lines
from realengine.environments import PARSERS, SERVING, installed
from vllm_operator.engine.flags import problems
from vllm_operator.engine.versions import Version

VERSIONS = (
    "0.8.0", "0.8.3", "0.8.4", "0.8.5", "0.9.0", "0.9.1", "0.9.2", "0.10.0", "0.10.1", "0.10.2",
    "0.11.0", "0.11.1", "0.11.2", "0.12.0", "0.13.0", "0.14.0", "0.15.0", "0.16.0", "0.17.0",
    "0.18.0", "0.19.0", "0.20.0", "0.21.0", "0.22.0", "0.23.0", "0.24.0", "0.25.0", "0.26.0",
    "0.27.0", "0.28.0", "0.29.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0",
)  # fmt: skip
REAL = {lock.version: lock for lock in (*PARSERS, SERVING)}
REPORT = Path("build/benchmarks/command_lines.json")


def check(version: str, number: int) -> dict[str, Any]:
    """One version's row."""
    started = time.monotonic()
    commands = [command[1:] for command in command_lines(version, number)]
    environment = installed(REAL[version]) if version in REAL else None
    refused: list[tuple[list[str], str]]
    if environment is not None:
        answers = environment.parse(commands).refusals
        refused = [(one, why) for one, why in zip(commands, answers, strict=True) if why]
    else:
        known = Version.parse(version)
        checked = ((one, problems(one[1:], known)) for one in commands)
        refused = [(one, "; ".join(why)) for one, why in checked if why]
    return {
        "version": version,
        "checkedBy": "parser" if environment is not None else "table",
        "commands": len(commands),
        "refused": len(refused),
        "examples": [{"command": one, "why": why} for one, why in refused[:3]],
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> int:
    """Checks every version and reports."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--commands", type=int, default=2000, help="for each version")
    options.add_argument("--versions", nargs="+", default=VERSIONS)
    given = options.parse_args()
    results = [check(version, given.commands) for version in given.versions]
    table = Table("vLLM", "checked by", "command lines", "refused", "seconds")
    for one in results:
        table.add_row(
            one["version"],
            one["checkedBy"],
            str(one["commands"]),
            str(one["refused"]),
            str(one["seconds"]),
        )
    totals = {
        by: sum(one["commands"] for one in results if one["checkedBy"] == by)
        for by in ("parser", "table")
    }
    refused = sum(one["refused"] for one in results)
    console = Console()
    console.print(table)
    console.print(
        f"{totals['parser']} parsed by a real parser, {totals['table']} checked by the table, "
        f"{refused} refused"
    )
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    report = {"total": totals, "refused": refused, "versions": results}
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())

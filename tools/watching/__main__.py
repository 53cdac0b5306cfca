"""Writes the chart's files of dashboards and rules, or with ``--check`` says which are old."""

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from watching import boards, fleet, rules, server

FILES = Path(__file__).resolve().parents[2] / "charts" / "vllm-operator" / "files"
HEAD = (
    "# Made by `make generate` of tools/watching. The chart's value watching.rules makes a\n"
    "# PrometheusRule of it; a Prometheus without its operator reads this file as it is.\n"
)


class _Plain(yaml.SafeDumper):
    """Every rule by itself, also where two share an annotation."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def files() -> Iterator[tuple[Path, str]]:
    """Each file and its text."""
    for board in (fleet.BOARD, server.BOARD):
        yield FILES / "dashboards" / f"{board.uid}.json", boards.made(board)
    text = yaml.dump(
        {"groups": rules.groups()},
        Dumper=_Plain,
        sort_keys=False,
        width=100,
        allow_unicode=True,
    )
    yield FILES / "rules.yaml", HEAD + text


def main(arguments: list[str]) -> int:
    """The command; 1 where ``--check`` finds a difference."""
    old = False
    for path, text in files():
        before = path.read_text() if path.exists() else ""
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif before != text:
            old = True
            lines = difflib.unified_diff(before.splitlines(), text.splitlines(), str(path), n=1)
            sys.stdout.writelines(f"{line}\n" for line in lines)
    if old:
        sys.stdout.write("dashboards or rules are out of date: run 'make generate'\n")
    return int(old)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

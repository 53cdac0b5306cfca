"""What the demo prints, and the shell that runs exactly the commands that it prints."""

import os
import re
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

PLAIN_WIDTH = 100


class DemoError(Exception):
    """A step did not show what it was meant to show."""

    def __init__(self, step: str, expected: str, seen: str) -> None:
        super().__init__(step)
        self.step = step
        self.expected = expected
        self.seen = seen


class Terminal:
    """Headings, remarks, commands and their output; plain text where nobody watches."""

    def __init__(self) -> None:
        interactive = sys.stdout.isatty()
        self.console = Console(
            width=None if interactive else PLAIN_WIDTH, highlight=False, soft_wrap=True
        )

    @property
    def interactive(self) -> bool:
        """Whether a person watches, who gets colours."""
        return self.console.is_terminal

    def heading(self, text: str) -> None:
        """The title of a chapter."""
        self.console.print()
        self.console.print(Rule(Text(text, style="bold"), align="left", style="blue"))
        self._flush()

    def remark(self, text: str) -> None:
        """A sentence of ours, told from output by its mark."""
        self.console.print(Text(f"# {text}", style="italic dim"))
        self._flush()

    def command(self, text: str) -> None:
        """A command, before it runs."""
        self.console.print()
        self.console.print(Text.assemble(("$ ", "bold green"), (text, "bold")))
        self._flush()

    def output(self, text: str) -> None:
        """What a command wrote, colours included."""
        for line in text.rstrip().splitlines():
            self.console.print(Text.from_ansi(line.rstrip()))
        self._flush()

    def failure(self, error: DemoError, notes: Iterable[str]) -> None:
        """Everything that is needed to find out why."""
        self.console.print()
        self.console.print(Text(f"FAILED: {error.step}", style="bold red"))
        for title, text in (("expected", error.expected), ("seen", error.seen)):
            self.console.print(Text(f"  {title}:", style="bold"))
            for line in text.rstrip().splitlines() or ["(nothing)"]:
                self.console.print(Text.from_ansi(f"    {line}"))
        for note in notes:
            self.console.print(Text(f"  {note}", style="bold"))
        self._flush()

    def _flush(self) -> None:
        self.console.file.flush()


class Shell:
    """Runs command lines through sh in one folder, with one cluster as kubectl's.

    ``programs`` are put on PATH under their names, so that a command can be printed as a person
    would type it.
    """

    def __init__(
        self,
        terminal: Terminal,
        folder: Path,
        bin_folder: Path,
        programs: Mapping[str, list[str]],
        environment: Mapping[str, str],
    ) -> None:
        self._terminal = terminal
        self._folder = folder
        bin_folder.mkdir()
        for name, command in programs.items():
            program = bin_folder / name
            program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self._environment = {
            **os.environ,
            **environment,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "COLUMNS": str(terminal.console.width),
        }
        if terminal.interactive:
            self._environment["FORCE_COLOR"] = "1"

    def run(
        self, command: str, *, expect: str = "", status: int = 0, timeout: float = 600
    ) -> tuple[str, float]:
        """Prints a command, runs it, prints its output; returns the output and the seconds.

        Raises DemoError where it ends with another status than ``status``, or where its output does
        not match the regular expression ``expect``.
        """
        self._terminal.command(command)
        started = time.monotonic()
        try:
            ended = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            seen = error.stdout.decode(errors="replace") if error.stdout else ""
            raise DemoError(command, f"an end within {timeout:g} s", seen) from error
        seconds = time.monotonic() - started
        self._terminal.output(ended.stdout)
        if ended.returncode != status:
            seen = f"status {ended.returncode}\n{ended.stdout}"
            raise DemoError(command, f"status {status}", seen)
        plain = Text.from_ansi(ended.stdout).plain
        if re.search(expect, plain, re.MULTILINE) is None:
            raise DemoError(command, f"output that matches {expect}", plain)
        return plain, seconds

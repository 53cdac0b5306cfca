"""``vllm-operator check``: the list before production, of a file or of a server that runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from vllm_operator.api.plan import Plan, Unplanned
from vllm_operator.diagnosis.checklist import checklist
from vllm_operator.diagnosis.checks import Check, Outcome, any_failed
from vllm_operator.errors import InputError
from vllm_operator.manifests.planned import Planned

from .checking import Asked, seen_of
from .cluster import Reader, asked, here
from .documents import STANDARD_INPUT
from .live import read
from .options import namespace_option, output_option, parted, surroundings_options, told
from .plan import PLANNED_NODES, plan_manifests, surroundings
from .sources import metrics_options, options_of
from .table import table_of

FAILED: Final = 1
STYLES: Final = {
    Outcome.PASS: "green",
    Outcome.SKIP: "dim",
    Outcome.WARN: "yellow",
    Outcome.FAIL: "bold red",
}
ENDS: Final = (".yaml", ".yml", ".json")
"""Of what is a file and no name."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A server with its checks."""

    name: str
    checks: Sequence[Check]


@click.command("check")
@click.argument("name", metavar="FILE|NAME")
@namespace_option("the server")
@metrics_options
@click.option(
    "--endpoint",
    metavar="URL",
    help="Where the completion is asked for: an address "
    "of the server, instead of its Service through the API server.",
)
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the API key that the server asks for; with --endpoint.",
)
@click.option("--no-completion", is_flag=True, help="Ask the server for no completion.")
@surroundings_options("For a FILE: ")
@click.option("--strict", is_flag=True, help="A warning counts as a failure.")
@output_option("table", "json", says="How to print the checks.")
def check_command(
    name: str,
    namespace: str | None,
    endpoint: str | None,
    api_key_file: Path | None,
    no_completion: bool,
    strict: bool,
    output: str,
    **given: Any,
) -> None:
    """Check what a server needs before production: each check passes, warns or fails, and why.

    A FILE (a path, or - for standard input) is planned and checked by its plan. A NAME is looked
    at in its cluster as well: health, metrics, the engine's log, a short completion.
    Exit status: 0, 1 if a check failed, 2 if it could not run.
    """
    around, metrics = parted(given)
    with told():
        if _is_file(name):
            found = _of_file(name, surroundings(**around, max_nodes=PLANNED_NODES))
        else:
            key = _key_of(api_key_file) if api_key_file else None
            question = Asked(options_of(**metrics), endpoint, key, not no_completion)
            found = [_of_cluster(here(namespace), name, question)]
    if output == "json":
        click.echo(json.dumps([_json(one) for one in found], indent=2, ensure_ascii=False))
    else:
        _show(Console(highlight=False), found)
    if any(any_failed(one.checks, strict=strict) for one in found):
        sys.exit(FAILED)


def _key_of(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError) as problem:
        raise InputError(f"--api-key-file {path}: {problem}") from problem


def _is_file(subject: str) -> bool:
    """A server's name has no slash, and no such end."""
    return subject == STANDARD_INPUT or "/" in subject or subject.endswith(ENDS)


def _of_file(path: str, around: Any) -> list[Checked]:
    from .documents import read_manifests

    return [_planned(one) for one in plan_manifests(read_manifests(path), around)]


def _planned(found: Planned | Unplanned) -> Checked:
    if isinstance(found, Unplanned):
        name = f"{found.namespace}/{found.name}" if found.name else "a server without a name"
        first = found.problems[0]
        why = f"{first.reason}: {first.message}"
        return Checked(name, [Check("plan", Outcome.FAIL, why, first.field)])
    server = found.server
    name = f"{server.metadata.namespace}/{server.metadata.name}"
    budgets = (one for one in found.beside if one["kind"] == "PodDisruptionBudget")
    return Checked(name, checklist(server, found.plan, budget=next(budgets, None)))


def _of_cluster(namespace: str, name: str, question: Asked) -> Checked:
    async def looked(reader: Reader) -> Checked:
        live = read(await reader.server(namespace, name))
        plan: Plan | None = live.plan
        seen = None
        if plan is not None:
            live, seen = await seen_of(reader, live, plan, question)
        problems = live.remembered.status.problems
        checks = checklist(live.server, plan, problems, no_plan=live.no_plan, seen=seen)
        return Checked(live.name, checks)

    return asked(looked)


def _show(console: Console, found: Sequence[Checked]) -> None:
    for one in found:
        console.print(Rule(Text(one.name, style="bold")))
        table = table_of("check", "", "why, and what changes it")
        for check in one.checks:
            word = Text(check.outcome.value, style=STYLES[check.outcome])
            why = Text(check.why)
            if check.field and check.outcome in (Outcome.WARN, Outcome.FAIL):
                why.append(f"\n{check.field}", style="cyan")
            table.add_row(Text(check.name), word, why)
        console.print(table)
        counts = dict.fromkeys(Outcome, 0)
        for check in one.checks:
            counts[check.outcome] += 1
        said = ", ".join(
            f"{number} {outcome.value}" for outcome, number in counts.items() if number
        )
        console.print(Text(f" {said}", style="dim"))


def _json(found: Checked) -> dict[str, Any]:
    namespace, _, name = found.name.rpartition("/")
    checks = [one.to_json_object() for one in found.checks]
    return {"namespace": namespace, "name": name, "checks": checks}

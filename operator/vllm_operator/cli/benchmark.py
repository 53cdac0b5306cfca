"""``vllm-operator benchmark``: measure a server by vLLM's own load, keep it, compare it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from vllm_operator.api.conditions import timestamp
from vllm_operator.benchmark.comparison import compare
from vllm_operator.benchmark.job import about, job
from vllm_operator.benchmark.jobs import name_at
from vllm_operator.benchmark.load import REPEATS, Wish, load_of, points_of
from vllm_operator.benchmark.predicted import predicted
from vllm_operator.benchmark.results import Measured, Progress, Result, read_log
from vllm_operator.errors import InputError
from vllm_operator.sizing.plan.difference import plan_difference

from .benchmark_cluster import Cluster, Served, asked
from .benchmark_view import print_comparison, print_list, print_result, svg
from .cluster import here
from .options import deadline_option, namespace_option, output_option, told

DEADLINE_MINUTES: Final = 60
NAMESPACE: Final = namespace_option("the server")


class _OrServer(click.Group):
    """A group whose first word is a command, or else the name of a server to measure."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else "--help"
        if first not in self.commands and first not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args or ["--help"])


@click.group("benchmark", cls=_OrServer)
def benchmark_command() -> None:
    """Measure a server with vLLM's own load, keep the figures, and compare them.

    `vllm-operator benchmark NAME` is short for `vllm-operator benchmark run NAME`.
    """


def _sweep(_context: click.Context, _option: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as problem:
        raise click.BadParameter(f"{text!r} is no list of numbers, as 1,4,16,64") from problem
    if any(one < 1 for one in found):
        raise click.BadParameter("requests at once are 1 or more")
    return found


@benchmark_command.command("run")
@click.argument("name")
@NAMESPACE
@click.option("--prompt-tokens", type=click.IntRange(1), help="Length of prompts.")
@click.option("--output-tokens", type=click.IntRange(1), help="Length of answers.")
@click.option(
    "--shared-prefix",
    type=click.IntRange(0),
    metavar="TOKENS",
    help="Tokens with which all prompts begin; of --prompt-tokens.",
)
@click.option("--concurrency", type=click.IntRange(1), help="Requests at once, of all replicas.")
@click.option(
    "--sweep", default="", callback=_sweep, metavar="N,N,...", help="Several of them in turn."
)
@click.option(
    "--request-rate",
    type=click.FloatRange(0, min_open=True),
    help="Requests a second, whatever is answered.",
)
@click.option("--prompts", type=click.IntRange(1), help="Requests of a run.")
@click.option(
    "--repeats",
    type=click.IntRange(1, 50),
    default=REPEATS,
    show_default=True,
    help="Runs of each load: what an interval is made of.",
)
@click.option("--tokenizer", help="Where the server's cannot be read: its name on the Hub.")
@deadline_option(1440, DEADLINE_MINUTES, says="After which the Job is ended.")
@output_option("table", "json", "yaml", says="yaml prints the Job and runs nothing.")
def run_benchmark(
    name: str,
    namespace: str | None,
    prompt_tokens: int | None,
    output_tokens: int | None,
    shared_prefix: int | None,
    concurrency: int | None,
    sweep: tuple[int, ...],
    request_rate: float | None,
    prompts: int | None,
    repeats: int,
    tokenizer: str | None,
    deadline_minutes: int,
    output: str,
) -> None:
    """Measure the server NAME.

    A Job with the server's own image sends `vllm bench serve`'s requests to its Service; it takes
    no GPU. Lengths and requests at once are the specification's (spec.workload), else the plan's.
    The result is kept with the plan that served it. Exit status: 0, or 2 where nothing was
    measured.
    """
    wish = Wish(
        prompt_tokens,
        output_tokens,
        shared_prefix,
        concurrency,
        sweep,
        request_rate,
        prompts,
        repeats,
    )

    def command() -> None:
        async def question(cluster: Cluster) -> None:
            served = await cluster.served(name)
            begun, body = _job(served, wish, tokenizer, 60 * deadline_minutes)
            if output == "yaml":
                click.echo(yaml.safe_dump(body, sort_keys=False, width=100), nl=False)
                return
            if served.unsteady is not None:
                raise InputError(f"{cluster.namespace}/{name}: {served.unsteady}")
            # What was asked is known here; the log is asked for what was measured.
            result = replace(begun, points=(await _measured(cluster, body)).points)
            if output == "json":
                click.echo(json.dumps(result.to_json_object(), indent=2))
            else:
                print_result(Console(highlight=False), result)
            changed = plan_difference(begun.plan, await cluster.plan(name))
            if changed is not None:
                raise InputError(
                    f"the plan changed while it was measured ({changed}): the figures are of no "
                    "one plan, and are not kept; measure again"
                )
            await cluster.keep(served.server.metadata.uid or "", result)

        asked(here(namespace), question)

    with told():
        command()


def _job(
    served: Served, wish: Wish, tokenizer: str | None, deadline: int
) -> tuple[Result, dict[str, Any]]:
    server, plan = served.server, served.plan
    now = datetime.now(UTC)
    load = load_of(server, plan, wish)
    points = [
        Measured(one, (), predicted(server, plan, load, one))
        for one in points_of(server, plan, wish)
    ]
    begun = about(server, plan, name_at(now), timestamp(now), load, points)
    body = job(
        server,
        plan,
        served.template,
        begun,
        wish.repeats,
        deadline_seconds=deadline,
        tokenizer=tokenizer,
    )
    return begun, body


async def _measured(cluster: Cluster, body: dict[str, Any]) -> Result:
    """Make the Job and wait for its result, with progress; an interrupt ends the Job too."""
    job_name = body["metadata"]["name"]
    await cluster.begin(body)
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    told: list[str] = []
    with Bar(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(f"Job {job_name}", total=None)

        def watcher(progress: Progress, waits: str) -> None:
            state = f"its pod waits: {waits}" if waits else progress.state
            bar.update(task, description=state, total=progress.of or None)
            bar.update(task, completed=progress.number)
            if not console.is_terminal and told[-1:] != [state]:
                console.print(f"{job_name}: {state}", soft_wrap=True)
            told.append(state)

        try:
            return await cluster.finished(job_name, watcher)
        except (asyncio.CancelledError, KeyboardInterrupt):
            await cluster.delete(job_name)
            console.print(f"the Job {job_name} is deleted")
            raise


@benchmark_command.command("list")
@click.argument("name", required=False)
@NAMESPACE
@output_option("table", "json", says="How to print it.")
def list_benchmarks(name: str | None, namespace: str | None, output: str) -> None:
    """List the results that are kept of the server NAME, or of all of the namespace."""

    def command() -> None:
        async def question(cluster: Cluster) -> list[Result]:
            return await cluster.results(name)

        place = here(namespace)
        found = asked(place, question)
        if output == "json":
            click.echo(json.dumps([one.to_json_object() for one in found], indent=2))
        elif found:
            print_list(Console(highlight=False), found)
        else:
            click.echo(f"nothing was measured of {name or 'any server'} in {place}")

    with told():
        command()


@benchmark_command.command("show")
@click.argument("result")
@NAMESPACE
def show_benchmark(result: str, namespace: str | None) -> None:
    """Print a RESULT again: SERVER/NAME, SERVER for its newest, or a file."""

    def command() -> None:
        (found,) = _results(namespace, [result])
        print_result(Console(highlight=False), found)

    with told():
        command()


@benchmark_command.command("compare")
@click.argument("before")
@click.argument("after")
@NAMESPACE
@click.option(
    "--svg",
    "picture",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Also draw both as SVG.",
)
@output_option("table", "json", says="How to print it.")
def compare_benchmarks(
    before: str, after: str, namespace: str | None, picture: Path | None, output: str
) -> None:
    """Say what changed between two results in plan and figures, and what of it is noise.

    BEFORE and AFTER are SERVER/NAME as `benchmark list` shows them, SERVER for its newest, or files
    that `--output json` wrote, or logs of Jobs.
    """

    def command() -> None:
        found = compare(*_results(namespace, [before, after]))
        if output == "json":
            click.echo(json.dumps(found.to_json_object(), indent=2))
        else:
            print_comparison(Console(highlight=False), found)
        if picture is not None:
            try:
                picture.write_text(svg(found), "utf-8")
            except OSError as problem:
                raise InputError(f"{picture}: {problem.strerror or problem}") from problem

    with told():
        command()


def _results(namespace: str | None, names: Sequence[str]) -> list[Result]:
    """Each by its name: of files, and of the cluster, which is asked where one is no file."""
    files = {name: _of_file(Path(name)) for name in names if Path(name).is_file()}
    servers = {name.partition("/")[0] for name in names if name not in files}

    async def question(cluster: Cluster) -> dict[str, list[Result]]:
        return {server: await cluster.results(server) for server in sorted(servers)}

    if not servers:
        return [files[name] for name in names]
    place = here(namespace)
    kept = asked(place, question)
    return [files[name] if name in files else _of(name, kept, place) for name in names]


def _of(name: str, kept: dict[str, list[Result]], namespace: str) -> Result:
    server, slash, wanted = name.partition("/")
    found = [one for one in kept[server] if not slash or one.name == wanted]
    if found:
        return found[0]
    known = ", ".join(one.title for one in kept[server])
    raise InputError(
        f"there is no result {name} in {namespace}; "
        + (f"there are {known}" if known else f"`vllm-operator benchmark {server}` makes one")
    )


def _of_file(path: Path) -> Result:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"{path}: {problem}") from problem
    try:
        document = json.loads(text)
    except ValueError:
        found = read_log(text)
        if found.result is None or not found.done:
            raise InputError(
                f"{path} is neither a result as JSON nor the whole log of a benchmark's Job"
            ) from None
        return found.result
    if not isinstance(document, dict):
        raise InputError(f"{path}: a {type(document).__name__} is no result")
    return Result.from_json_object(document)

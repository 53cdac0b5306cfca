"""``vllm-operator top``: what servers do now, and what bounds each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from vllm_operator.api.conditions import timestamp
from vllm_operator.diagnosis.figures import Figures
from vllm_operator.errors import ApiError, InputError, TemporaryFailure
from vllm_operator.lifecycle.kinds import SERVERS
from vllm_operator.tuning.diagnosis import Bound
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.quality import Hold

from .cluster import Reader, asked, here
from .live import LATELY, Live, read, with_look, with_pods
from .options import namespace_option, output_option, told
from .sources import MetricsOptions, metrics_options, options_of, source_of
from .table import seconds_of

if TYPE_CHECKING:
    from vllm_operator.controller.sources.prometheus import Prometheus

WIDE: Final = 132
"""Columns of what is no terminal, at least."""
NONE: Final = "-"
CALM: Final = (Bound.LOAD, Bound.NOTHING)
"""What is no reason to look closer."""


@click.command("top")
@click.argument("name", nargs=-1)
@namespace_option("the servers")
@click.option("-A", "--all-namespaces", is_flag=True, help="Servers of all namespaces.")
@metrics_options
@click.option(
    "--every",
    type=click.FloatRange(1, 3600),
    default=10.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Look once; also where the output is no terminal.")
@output_option("table", "json", says="json looks once.")
def top_command(
    name: tuple[str, ...],
    namespace: str | None,
    all_namespaces: bool,
    every: float,
    once: bool,
    output: str,
    **metrics: Any,
) -> None:
    """Show what servers do now: traffic, latencies, requests, KV cache, and what bounds them.

    Of the last five minutes, from Prometheus. NAMEs are servers of the namespace; without any all
    are shown. Exit status: 0, or 2 where the cluster cannot be asked.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    with told(), suppress(KeyboardInterrupt):
        glance = _Glance(None if all_namespaces else here(namespace), name, options_of(**metrics))
        if output == "json":
            seen = asked(glance.once)
            click.echo(json.dumps(_json(seen), indent=2, ensure_ascii=False))
        elif once or not console.is_terminal:
            console.print(_shown(asked(glance.once), glance))
        else:
            asked(lambda reader: _watched(reader, glance, console, every))


class _Glance:
    """What is looked at."""

    def __init__(
        self, namespace: str | None, names: Sequence[str], options: MetricsOptions
    ) -> None:
        self.namespace, self.names, self.options = namespace, names, options
        self.durations = Durations(options.interval)
        self.at = ""
        self.missing = ""
        """Why there are no metrics."""

    async def once(self, reader: Reader) -> list[Live]:
        """One look."""
        async with self.source(reader) as source:
            return await self.look(reader, source)

    @asynccontextmanager
    async def source(self, reader: Reader) -> AsyncIterator[Prometheus | None]:
        """The Prometheus; None where there is none, which ``missing`` then says."""
        try:
            source = await source_of(reader, self.options)
        except InputError as problem:
            self.missing = str(problem)
            yield None
            return
        try:
            yield source
        finally:
            source.close()

    async def look(self, reader: Reader, source: Prometheus | None) -> list[Live]:
        """All servers that are asked for, by name."""
        bodies = await reader.listed(SERVERS, self.namespace)
        found = [read(body) for body in bodies]
        if self.names:
            known = {one.server.metadata.name for one in found}
            for name in self.names:
                if name not in known:
                    where = self.namespace or "any namespace"
                    raise InputError(f"there is no server {name} in {where}")
            found = [one for one in found if one.server.metadata.name in self.names]
        found.sort(key=lambda one: one.name)
        found = await with_pods(reader, found, self.namespace) if found else []
        self.at = timestamp(datetime.now(UTC))
        if source is None:
            return [replace(one, no_look=self.missing) for one in found]
        window = LATELY * self.durations.interval
        return await with_look(found, source, self.durations, window=window)


async def _watched(reader: Reader, glance: _Glance, console: Console, every: float) -> None:
    async with glance.source(reader) as source:
        with Screen(console=console, auto_refresh=False, screen=True) as screen:
            while True:
                try:
                    seen: RenderableType = _shown(await glance.look(reader, source), glance)
                except (ApiError, TemporaryFailure) as problem:
                    seen = Text(f"{problem}; asked again in {every:g} s")
                screen.update(seen, refresh=True)
                await asyncio.sleep(every)


def _shown(found: Sequence[Live], glance: _Glance) -> RenderableType:
    if not found:
        return Text(f"There are no servers in {glance.namespace or 'any namespace'}.")
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("server", no_wrap=True)
    table.add_column("ready", no_wrap=True)
    table.add_column("GPUs", overflow="fold")
    for name in ("req/s", "tok/s", "TTFT", "ITL", "run", "wait", "KV", "hits"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bound by", no_wrap=True)
    for one in found:
        _row(table, one, whole=glance.namespace is None)
    minutes = LATELY * glance.durations.interval / 60
    head = Text(f"{glance.at}, over the last {minutes:.2g} min", style="dim")
    notes = list(dict.fromkeys(one.no_pods or one.no_look for one in found if not one.look))
    return Group(head, table, *(Text(note, style="yellow") for note in notes if note))


def _row(table: Table, live: Live, *, whole: bool) -> None:
    summary = live.remembered.status.summary
    ready = (summary.ready if summary else None) or NONE
    gpus = (summary.gpus if summary else None) or NONE
    seen = live.look.figures if live.look else None
    bound = bound_by(live)
    style = "" if bound in (NONE, *(one.value for one in CALM)) else "bold red"
    table.add_row(
        Text(live.name if whole else live.server.metadata.name),
        Text(ready),
        Text(gpus),
        *map(Text, _cells(seen)),
        Text(bound, style=style),
    )


def _cells(seen: Figures | None) -> list[str]:
    if seen is None:
        return [NONE] * 8
    return [
        f"{seen.requests_per_second:.3g}",
        f"{seen.output_tokens_per_second:,.0f}",
        NONE if seen.time_to_first_token is None else seconds_of(seen.time_to_first_token),
        NONE if seen.inter_token_latency is None else seconds_of(seen.inter_token_latency),
        f"{seen.running:.1f}",
        f"{seen.waiting:.1f}",
        f"{seen.kv_cache_usage:.0%}",
        NONE if seen.hit_rate is None else f"{seen.hit_rate:.0%}",
    ]


def bound_by(live: Live) -> str:
    """What bounds a server, or why that cannot be said; ``-`` without metrics."""
    look = live.look
    if look is None:
        return NONE
    if look.held is not None and look.held.reason is not Hold.TOO_LITTLE_TRAFFIC:
        return look.held.reason.value
    return look.diagnosis.bound.value if look.diagnosis else NONE


def _json(found: Sequence[Live]) -> list[dict[str, Any]]:
    return [
        {
            "namespace": one.server.metadata.namespace,
            "name": one.server.metadata.name,
            "ready": one.remembered.status.summary.ready if one.remembered.status.summary else None,
            "gpus": one.remembered.status.summary.gpus if one.remembered.status.summary else None,
            "figures": one.look.figures.to_json_object() if one.look and one.look.figures else None,
            "boundBy": None if bound_by(one) == NONE else bound_by(one),
            "why": _why(one),
        }
        for one in found
    ]


def _why(live: Live) -> str:
    look = live.look
    if look is None:
        return live.no_pods or live.no_look
    if look.held is not None:
        return look.held.message
    return look.diagnosis.first.message if look.diagnosis else ""

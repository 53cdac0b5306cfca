"""``vllm-operator explain``: what a server is, what bounds it now, and what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from vllm_operator.errors import InputError
from vllm_operator.tuning.durations import Durations

from .cluster import Reader, asked, here, metadata_of
from .curve import svg
from .documents import read_manifests
from .explain_view import picture_of, show
from .live import Live, read, with_look, with_pods, with_revision
from .options import namespace_option, told
from .sources import MetricsOptions, metrics_options, options_of, source_of

REMEDY: Final = "set KUBECONFIG, or give the server with -f"


@click.command("explain")
@click.argument("name", required=False)
@namespace_option("the server")
@click.option(
    "-f",
    "--filename",
    metavar="FILE",
    help="Server as kubectl get -o yaml prints it, instead of asking the cluster; - reads "
    "standard input.",
)
@metrics_options
@click.option(
    "--svg",
    "picture",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Also write the curve as SVG.",
)
def explain_command(
    name: str | None,
    namespace: str | None,
    filename: str | None,
    picture: Path | None,
    **metrics: Any,
) -> None:
    """Tell what a server is, what bounds it now, which knob would help and what that costs.

    NAME is asked for in the cluster that KUBECONFIG names, with its metrics from Prometheus where
    there is one; or with -f it is looked for in a file, and told by its status alone.
    Exit status: 0, or 2 for a server that cannot be read.
    """
    with told():
        options = options_of(**metrics)
        if filename is not None:
            found = [read(body) for body in _of_file(name, namespace, filename)]
        elif name is None:
            raise InputError("give the NAME of a server, or a file with -f")
        else:
            found = [_live(here(namespace), name, options)]
        if picture is not None and len(found) > 1:
            raise InputError(f"{len(found)} servers are found, and --svg draws one; give its NAME")
        console = Console(highlight=False)
        for one in found:
            show(console, one, Durations(options.interval))
            if picture is not None:
                _draw(one, picture)


def _of_file(name: str | None, namespace: str | None, filename: str) -> Sequence[Mapping[str, Any]]:
    bodies = [
        body
        for body in read_manifests(filename).servers
        if name in (None, metadata_of(body).get("name"))
        and namespace in (None, metadata_of(body).get("namespace", "default"))
    ]
    if not bodies:
        named = f"server {name}" if name else "server"
        where = f" in namespace {namespace}" if namespace else ""
        raise InputError(f"{filename} holds no {named}{where}")
    return bodies


def _live(namespace: str, name: str, options: MetricsOptions) -> Live:
    """The server with all that may be read of it; what may not says why."""
    durations = Durations(options.interval)

    async def question(reader: Reader) -> Live:
        live = read(await reader.server(namespace, name))
        (live,) = await with_pods(reader, [live], namespace)
        live = await with_revision(reader, live)
        try:
            source = await source_of(reader, options)
        except InputError as problem:
            return replace(live, no_look=str(problem))
        try:
            window = durations.window
            (live,) = await with_look([live], source, durations, window=window, learn=True)
        finally:
            source.close()
        return live

    return asked(question, REMEDY)


def _draw(live: Live, picture: Path) -> None:
    chart = picture_of(live)
    if chart is None:
        raise InputError(f"nothing was learned of {live.name} yet, so there is no curve to draw")
    try:
        picture.write_text(svg(chart, live.name), "utf-8")
    except OSError as problem:
        raise InputError(f"{picture}: {problem.strerror or problem}") from problem

"""``vllm-operator run``: the operator's process."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from vllm_operator.api.plan import Problem

from .logs import configure_logging

LOG: Final = logging.getLogger(__name__)


def _names(_context: click.Context, _option: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _wrong_defaults(problems: Sequence[Problem]) -> str:
    """What is wrong in the defaults, in one sentence; empty where nothing is."""
    if not problems:
        return ""
    first, more = problems[0], len(problems) - 1
    also = f" (and {more} more)" if more else ""
    return (
        f"the operator's chart value {first.field} is wrong: {first.message}{also}; no server gets "
        "a new plan until it is corrected"
    )


def give_home() -> None:
    """The home that container runtimes give to a user without one.

    ``kubernetes.aio`` asks for a home when it is imported, and ends where there is none.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ.setdefault("HOME", "/")


@click.command("run", context_settings={"auto_envvar_prefix": "VLLM_OPERATOR"})
@click.option(
    "--namespaces", default="", callback=_names, help="Namespaces to act in, by commas; empty: all."
)
@click.option("--watch-nodes", type=bool, default=True, help="Read GPU nodes (needs permission).")
@click.option("--default-image", default="", help="Image for servers that name none.")
@click.option("--listen", default="0.0.0.0:8080", help="Address of /healthz, /readyz, /metrics.")
@click.option("--leader-election", type=bool, default=False, help="Agree by a Lease on who acts.")
@click.option("--lease-namespace", default=None, help="Namespace of the Lease; the pod's own.")
@click.option("--lease-seconds", type=click.IntRange(3, 300), default=15, help="Lease duration.")
@click.option("--hub", type=bool, default=True, help="Ask the Hugging Face Hub for model facts.")
@click.option(
    "--hub-token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="File with the operator's own Hub token; off by default.",
)
@click.option(
    "--hub-token-namespaces",
    default="",
    callback=_names,
    help="Namespaces that may use that token.",
)
@click.option(
    "--host-path-prefixes",
    default="",
    callback=_names,
    help="Folders of nodes that servers may use, by commas.",
)
@click.option(
    "--pod-identity",
    type=click.Choice(["Fixed", "Platform"]),
    default="Fixed",
    help="Who says the user and the groups of pods whose server does not.",
)
@click.option(
    "--defaults", default="", help="What servers get that do not say it themselves, as JSON."
)
@click.option("--prices", default="", help="What an hour of each GPU costs, as JSON.")
@click.option(
    "--calibration", type=bool, default=False, help="Ask engines what they are and measured."
)
@click.option("--prometheus-url", default="", help="Prometheus with the engines' metrics.")
@click.option(
    "--prometheus-secrets",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Folder with bearer-token, username, password, ca.crt, tenant, as far as needed.",
)
@click.option("--prometheus-tenant-header", default="X-Scope-OrgID", help="Header of the tenant.")
@click.option("--prometheus-namespace-label", default="namespace", help="Label of namespaces.")
@click.option("--prometheus-pod-label", default="pod", help="Label of pods.")
@click.option(
    "--prometheus-interval",
    type=click.FloatRange(0.1, 60),
    default=15.0,
    help="Seconds between samples that are learned from, at least.",
)
@click.option(
    "--tuning-max-concurrent-trials",
    type=click.IntRange(0, 1000),
    default=3,
    help="Trials of all servers at once.",
)
@click.option(
    "--tuning-may-preempt",
    type=bool,
    default=False,
    help="Try servers with a priority class, whose pods may preempt others', under Forbid too.",
)
@click.option("--resync-seconds", type=click.FloatRange(10), default=600.0, help="Live re-listing.")
@click.option("--workers", type=click.IntRange(1, 64), default=24, help="Reconciles at once.")
@click.option(
    "--log-format", type=click.Choice(["json", "text"]), default="json", help="Log lines."
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning"]), default="info")
def run_command(
    lease_namespace: str | None,
    hub_token_file: Path | None,
    defaults: str,
    prices: str,
    log_format: str,
    log_level: str,
    **settings: Any,
) -> None:
    """Run the operator until SIGTERM."""
    # An option that is not among the parameters is the field of OperatorSettings of its name.
    give_home()
    # Imported here: `plan` and `render` need neither Kopf nor a Kubernetes client.
    from vllm_operator.controller.process import run_operator
    from vllm_operator.controller.settings import OperatorSettings, PrometheusSettings
    from vllm_operator.hardware.prices import read_prices
    from vllm_operator.sizing.asked.defaults import read_defaults

    configure_logging(log_format, log_level)
    given, wrong = read_defaults(defaults)
    problem = _wrong_defaults(wrong)
    if problem:
        LOG.error(problem)  # told here and by each server that waits for it: running ones go on
    paid, wrong = read_prices(prices)
    for one in wrong:
        LOG.error(
            "the operator's chart value %s is wrong, no price is known: %s", one.field, one.message
        )
    token = hub_token_file.read_text("utf-8").strip() if hub_token_file else None
    namespace = lease_namespace or os.environ.get("POD_NAMESPACE") or "default"
    prefix = "prometheus_"
    asked = {name: settings.pop(name) for name in list(settings) if name.startswith(prefix)}
    prometheus = PrometheusSettings(**{name[len(prefix) :]: value for name, value in asked.items()})
    chosen = OperatorSettings(
        lease_namespace=namespace,
        hub_token=token,
        prometheus=prometheus if prometheus.url else None,
        defaults=given,
        defaults_problem=problem,
        prices=paid,
        **settings,
    )
    instance = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    try:
        asyncio.run(run_operator(chosen, instance))
    except Exception as error:
        # Ending with a traceback and status 1 makes Kubernetes start the process afresh.
        click.echo(f"vllm-operator: {error}", err=True)
        if log_level == "debug":
            raise
        sys.exit(1)

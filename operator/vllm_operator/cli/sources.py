"""Where commands have engines' metrics from: a Prometheus, by its address or through the API
server. Edge."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from vllm_operator.errors import ApiError, InputError, TemporaryFailure, Unanswered
from vllm_operator.lifecycle.kinds import SERVICES

from .cluster import Object, Reader
from .options import Command, together

if TYPE_CHECKING:
    from vllm_operator.controller.client import ServiceAddress
    from vllm_operator.controller.sources.prometheus import Prometheus


USUAL: Final = ("operated-prometheus=true", "app.kubernetes.io/name=prometheus")
"""Labels of Services of a Prometheus: of Prometheus Operator's, else of the usual chart's."""
USUAL_PORTS: Final = ("http-web", "web", "http")
SECONDS: Final = 15.0
"""That an answer through the API server may take."""
_SERVICE: Final = re.compile(r"^([a-z0-9-]+)/([a-z0-9-]+):([a-z0-9-]+)$")


@dataclass(frozen=True, slots=True)
class MetricsOptions:
    """What the command line says of Prometheus."""

    prometheus: str | None = None
    """Its URL, or ``NAMESPACE/SERVICE:PORT``; None looks for one in the cluster."""
    secrets: Path | None = None
    namespace_label: str = "namespace"
    pod_label: str = "pod"
    interval: float = 15.0


def metrics_options(command: Command) -> Command:
    """Options of a command that reads metrics; it gets them by the names of ``MetricsOptions``,
    ``prometheus_`` before those that are Prometheus'."""
    return together(
        command,
        click.option(
            "--prometheus",
            metavar="URL",
            help="Prometheus with the engines' metrics, or NAMESPACE/SERVICE:PORT to ask it "
            "through the API server; else one is looked for in the cluster.",
        ),
        click.option(
            "--prometheus-secrets",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Folder with bearer-token, username, password, ca.crt, tenant, as needed.",
        ),
        click.option("--prometheus-namespace-label", default="namespace", show_default=True),
        click.option("--prometheus-pod-label", default="pod", show_default=True),
        click.option(
            "--interval",
            type=click.FloatRange(0.1, 60),
            default=15.0,
            show_default=True,
            help="Seconds between samples that are looked at, at least.",
        ),
    )


def options_of(
    prometheus: str | None,
    prometheus_secrets: Path | None,
    prometheus_namespace_label: str,
    prometheus_pod_label: str,
    interval: float,
) -> MetricsOptions:
    """The options as click gives them."""
    return MetricsOptions(
        prometheus,
        prometheus_secrets,
        prometheus_namespace_label,
        prometheus_pod_label,
        interval,
    )


async def source_of(reader: Reader, options: MetricsOptions) -> Prometheus:
    """The Prometheus to ask. Raises ``InputError`` where there is none, with what to do."""
    from vllm_operator.controller.client import ServiceAddress
    from vllm_operator.controller.settings import PrometheusSettings
    from vllm_operator.controller.sources.prometheus import Prometheus

    asked = options.prometheus
    settings = PrometheusSettings(
        url=asked or "",
        secrets=options.secrets,
        namespace_label=options.namespace_label,
        pod_label=options.pod_label,
        interval=options.interval,
    )
    if asked is not None and "://" in asked:
        return Prometheus(settings)
    if asked is not None:
        named = _SERVICE.match(asked)
        if named is None:
            raise InputError(
                f"--prometheus {asked} is neither a URL nor NAMESPACE/SERVICE:PORT, such as "
                "monitoring/prometheus-operated:9090"
            )
        service = ServiceAddress(*named.groups())
    else:
        service = await _usual(reader)
    return Prometheus(settings, ask=_through(reader, service, asyncio.get_running_loop()))


async def _usual(reader: Reader) -> ServiceAddress:
    """The one Prometheus of the cluster, by the usual labels."""
    for selector in USUAL:
        found = [
            one for one in await reader.listed(SERVICES, None, selector) if _port(one) is not None
        ]
        if len(found) > 1:
            names = ", ".join(str(_address(one)) for one in found)
            raise InputError(f"there are several Prometheus ({names}); name one by --prometheus")
        if found:
            return _address(found[0])
    raise InputError(
        "no Service of the cluster has the usual labels of a Prometheus "
        f"({' or '.join(USUAL)}); name one by --prometheus"
    )


def _address(service: Object) -> ServiceAddress:
    from vllm_operator.controller.client import ServiceAddress

    metadata = service["metadata"]
    return ServiceAddress(metadata["namespace"], metadata["name"], _port(service) or "")


def _port(service: Object) -> str | None:
    """The port that answers queries; of a Service with none of the usual names its first."""
    ports: Sequence[Mapping[str, Any]] = (service.get("spec") or {}).get("ports") or []
    for name in USUAL_PORTS:
        if any(one.get("name") == name for one in ports):
            return name
    return str(ports[0]["port"]) if ports else None


def _through(
    reader: Reader, service: ServiceAddress, loop: asyncio.AbstractEventLoop
) -> Callable[[str], Any]:
    """Sends a query through the API server, from a thread beside the loop."""

    async def queried(text: str) -> bytes:
        query = {"query": text, "timeout": f"{SECONDS:g}s"}
        sent = reader.client.through_service(service, "api/v1/query", query, seconds=SECONDS)
        answer: bytes = await reader.may(sent, "get", "services/proxy", service.namespace)
        return answer

    def ask(text: str) -> Any:
        try:
            answer = asyncio.run_coroutine_threadsafe(queried(text), loop).result(2 * SECONDS)
            return json.loads(answer)["data"]["result"]
        except ApiError as error:
            raise Unanswered(f"{service}: {error}", error.code in (400, 413, 422)) from error
        except (InputError, TemporaryFailure) as error:
            raise Unanswered(f"{service}: {error}") from error
        except (KeyError, TypeError, ValueError, TimeoutError) as error:
            said = f"the answer is none of Prometheus' ({type(error).__name__})"
            raise Unanswered(f"{service}: {said}") from error

    return ask

"""Kopf as informer and process host: the only importer of it.

Only ``on.event`` handlers, standalone, posting disabled: Kopf then writes nothing to any object.
A handler is registered only for what may be read, because Kopf ends the process after a minute of
refusals. Change detection, progress and diffs of Kopf's are not used, and its storages are replaced
by empty ones, which saves two deep copies of every object that passes by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import kopf
from kubernetes.aio.client.configuration import Configuration

from vllm_operator.lifecycle.kinds import STORED, Resource

from .client import PAGE_SIZE

Sink = Callable[[str, str | None, dict[str, Any]], None]
"""Takes the kind of an object, the event's type (None: initial listing) and the object."""


class _NoDiffs(kopf.DiffBaseStorage):
    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


def operator_settings(*, streaming: bool) -> kopf.OperatorSettings:
    """Kopf's settings: quiet, with time-outs, and selecting children on the server's side.

    ``streaming``: the initial list comes as a stream. Kopf otherwise holds all objects of a kind at
    once, which makes the memory of a start several times that of operation.
    """
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = PAGE_SIZE
    settings.watching.initial_streaming = streaming
    # Kopf keeps an object, whole, until its worker has been idle for so long.
    settings.queueing.idle_timeout = 0.05
    settings.queueing.exit_timeout = 0.5
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    selectors = settings.watching.label_selectors
    for one in STORED:
        if one.selector:
            selectors[one.where] = one.selector
    return settings


def build_registry(
    sink: Sink,
    credentials: Callable[[], Awaitable[Configuration]],
    watched: Iterable[Resource],
) -> kopf.OperatorRegistry:
    """Handlers that hand every event to ``sink``; ``credentials`` are loaded at each login."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        configuration = await credentials()
        header = await configuration.get_api_key_with_prefix("BearerToken")
        token = header.split(" ", 1)[-1] if header else None
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            token=token,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )

    def watch(resource: Resource) -> None:
        @kopf.on.event(*resource.where, registry=registry, id=resource.kind)
        async def deliver(event: Any, **_: Any) -> None:
            sink(resource.kind, event["type"], event["object"])

    for resource in watched:
        watch(resource)
    return registry


async def watch_forever(
    registry: kopf.OperatorRegistry,
    namespaces: tuple[str, ...],
    stop: asyncio.Event,
    started: asyncio.Event,
    *,
    identity: str,
    streaming: bool,
) -> None:
    """Run Kopf until ``stop`` is set; ``started`` is set once its own signal handlers are in place.

    ``identity``: without one Kopf asks for the user's name, and a pod's user has none.
    Raises where a watch fails for good (Kopf >= 1.45): the process is to end and start afresh.
    """
    await kopf.operator(
        registry=registry,
        settings=operator_settings(streaming=streaming),
        identity=identity,  # type: ignore[arg-type]  # a NewType that Kopf does not export
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
        ready_flag=started,
    )

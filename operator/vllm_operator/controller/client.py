"""The one way to the API server: JSON in, JSON out, over ``kubernetes.aio``'s transport.

Typed models would cost memory and drop what they do not know; objects here are what the API server
sent. Every request is counted by verb and code.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import yaml
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException

from vllm_operator.errors import ApiError, InputError, NamespaceTerminating, TemporaryFailure
from vllm_operator.lifecycle.kinds import EVENTS, PODS, SERVICES, Resource
from vllm_operator.manifests.labels import FIELD_MANAGER

from .metrics import Metrics

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
REQUEST_TIMEOUT_SECONDS: Final = 30
PAGE_SIZE: Final = 50
LOG_READ_BYTES: Final = 4 * 1024 * 1024
"""Of one log's last lines: no more is waited for, and fewer bytes are kept."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """A port of a Service."""

    namespace: str
    name: str
    port: str
    """Name or number."""
    scheme: str = "http"

    @property
    def path(self) -> str:
        """Where the API server's proxy has it."""
        named = f"{self.scheme}:{self.name}:{self.port}"
        return f"{SERVICES.path(self.namespace, named)}/proxy"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}:{self.port}"


class Client:
    """Requests to one API server, under one identity."""

    def __init__(self, api: ApiClient, metrics: Metrics) -> None:
        self.api = api
        self._metrics = metrics

    async def close(self) -> None:
        """Close the connections."""
        await self.api.rest_client.close()

    async def minor_version(self) -> int:
        """The minor version of the Kubernetes API server; 0 where it does not say."""
        answer = await self._request("GET", "/version")
        digits = "".join(char for char in str(answer.get("minor", "")) if char.isdigit())
        return int(digits or 0)

    async def serves(self, resource: Resource) -> bool:
        """Whether the API server has that kind."""
        try:
            answer = await self._request("GET", resource.root)
        except ApiError as error:
            if error.code in (403, 404):
                return False
            raise
        return any(one["name"] == resource.plural for one in answer.get("resources") or [])

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """One object, live; None where it does not exist."""
        try:
            return await self._request("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def pages(
        self, resource: Resource, namespace: str | None, selector: str | None = None
    ) -> AsyncIterator[list[Object]]:
        """All objects, live, a page at a time: a page bounds what is held in memory at once."""
        query: dict[str, Any] = {"limit": PAGE_SIZE}
        if selector:
            query["labelSelector"] = selector
        while True:
            answer = await self._request("GET", resource.path(namespace), query, verb="LIST")
            yield answer.get("items") or []
            token = answer["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def events_of(self, namespace: str, uid: str, limit: int) -> list[Object]:
        """At most ``limit`` events of one object. Raises ApiError and TemporaryFailure."""
        query = {"fieldSelector": f"regarding.uid={uid}", "limit": limit}
        answer = await self._request("GET", EVENTS.path(namespace), query, verb="LIST")
        return answer.get("items") or []

    async def create(self, resource: Resource, namespace: str | None, body: Object) -> Object:
        """Create an object that is never applied later (409 where it exists)."""
        return await self._request("POST", resource.path(namespace), body=body)

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Object,
        sub: str = "",
        *,
        force: bool = True,
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply under our manager's name.

        ``force`` takes fields from other managers (409 otherwise); ``dry_run`` only asks whether
        the API server would accept it.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        query |= {"force": "true"} if force else {}
        query |= {"dryRun": "All"} if dry_run else {}
        path = resource.path(namespace, name, sub)
        return await self._request("PATCH", path, query, body, APPLY, verb="APPLY")

    async def merge(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        """Merge patch of one object."""
        return await self._request("PATCH", resource.path(namespace, name), None, body, MERGE)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        uid: str | None = None,
        *,
        background: bool = False,
    ) -> None:
        """Delete one object, of that ``uid`` where it is given; it may be gone already.

        ``background`` takes what it owns with it, where the API server would leave that (Jobs).
        """
        body: Object = {} if uid is None else {"preconditions": {"uid": uid}}
        body |= {"propagationPolicy": "Background"} if background else {}
        try:
            await self._request("DELETE", resource.path(namespace, name), body=body or None)
        except ApiError as error:
            if error.code != 404:
                raise

    async def log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool,
        lines: int,
        limit: int,
        seconds: float,
        since: str | None = None,
    ) -> str:
        """The last lines of a container's log, at most the last ``limit`` bytes of them.

        ``previous`` reads that of the container before, ``since`` (RFC 3339) only lines written
        from then on. Raises ApiError and TemporaryFailure.
        """
        # Not limitBytes: the kubelet counts them from the first of the last lines, so that what is
        # left out is the log's end.
        query: dict[str, Any] = {"container": container, "tailLines": lines}
        query |= {"sinceTime": since} if since else {}
        query |= {"previous": "true"} if previous else {}
        path = PODS.path(namespace, pod, "log")
        data = await self._send(
            "GET", path, query, verb="LOG", accept="*/*", seconds=seconds, last=limit
        )
        return data.decode(errors="replace")

    async def beginning_of_log(
        self, namespace: str, pod: str, container: str, *, limit: int, seconds: float
    ) -> str:
        """At most the first ``limit`` bytes of a container's log. Raises ApiError and
        TemporaryFailure."""
        query = {"container": container, "limitBytes": limit}
        path = PODS.path(namespace, pod, "log")
        data = await self._send("GET", path, query, verb="LOG", accept="*/*", seconds=seconds)
        return data.decode(errors="replace")

    async def through_service(
        self,
        service: ServiceAddress,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Object | None = None,
        *,
        seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> bytes:
        """What a Service of the cluster answers through the API server's proxy: GET, or POST of
        ``body``. Takes the right to get or create ``services/proxy``, and the proxy takes away what
        the request is authorised by. Raises ApiError and TemporaryFailure."""
        method = "GET" if body is None else "POST"
        where = f"{service.path}/{path.lstrip('/')}"
        return await self._send(method, where, query, body, verb="PROXY", seconds=seconds)

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        verb: str = "",
    ) -> Object:
        answer = json.loads(await self._send(method, path, query, body, content_type, verb))
        assert isinstance(answer, dict)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        verb: str = "",
        accept: str = "application/json",
        seconds: float = REQUEST_TIMEOUT_SECONDS,
        last: int | None = None,
    ) -> bytes:
        headers = {"Accept": accept, "Content-Type": content_type}
        await self.api.update_params_for_auth(headers, {}, ["BearerToken"], path, method, body)
        url = self.api.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        started = time.monotonic()
        code = "none"
        try:
            response = await self.api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=seconds
            )
            data = await _body(response, last)
            code = str(response.status)
        except ApiException as error:
            code = str(error.status)
            raise _status_error(error.status, error.reason, error.body or b"") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            detail = str(error) or type(error).__name__
            raise TemporaryFailure(f"the API server did not answer: {detail}") from error
        finally:
            self._metrics.api_request(verb or method, code, time.monotonic() - started)
        if not 200 <= response.status <= 299:
            raise _status_error(response.status, response.reason, data)
        return data


async def _body(response: Any, last: int | None) -> bytes:
    if last is None:
        return bytes(await response.read())
    # Leaving it ends the connection where not everything was read.
    async with response.response as answer:
        return await last_bytes(answer.content.iter_any(), keep=last, most=LOG_READ_BYTES)


async def last_bytes(chunks: AsyncIterator[bytes], *, keep: int, most: int) -> bytes:
    """The last ``keep`` bytes of what comes, of which about ``most`` bytes are read."""
    data, came = bytearray(), 0
    async for chunk in chunks:
        came += len(chunk)
        data += chunk
        del data[:-keep]
        if came >= most:
            break
    return bytes(data)


def _status_error(code: int, reason: str | None, body: bytes | str) -> ApiError:
    try:
        status = json.loads(body)
        details = status.get("details") or {}
        causes = details.get("causes") or []
        terminating = any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
        # What is made in a namespace that is gone lacks the namespace, not itself.
        gone = code == 404 and details.get("kind") == "namespaces"
        kind = NamespaceTerminating if terminating or gone else ApiError
        return kind(code, status.get("reason") or reason or "", status.get("message") or "")
    except (ValueError, AttributeError):
        # Something before the API server may answer with a page that is not JSON.
        return ApiError(code, reason or "", str(body)[:200])


async def load_configuration() -> Configuration:
    """Address and credentials, afresh: the pod's service account, or KUBECONFIG outside a pod."""
    configuration = Configuration()
    # Looking for proxies in the environment costs two thread hops a request.
    configuration.client_session_kwargs = {"trust_env": False}
    try:
        kubernetes_config.load_incluster_config(client_configuration=configuration)
    except kubernetes_config.ConfigException:
        # The library looks at the variable once, when it is imported.
        await kubernetes_config.load_kube_config(
            os.environ.get("KUBECONFIG"), client_configuration=configuration
        )
    return configuration


def current_namespace() -> str:
    """The namespace of KUBECONFIG's current context; ``default`` where it names none, or there is
    no such file."""
    try:
        _, context = kubernetes_config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))
        return str((context.get("context") or {}).get("namespace") or "default")
    except (kubernetes_config.ConfigException, OSError, TypeError):
        return "default"
    except (yaml.YAMLError, ValueError, AttributeError) as problem:
        where = os.environ.get("KUBECONFIG", "~/.kube/config")
        said = " ".join(str(problem).split())
        raise InputError(f"KUBECONFIG {where} cannot be read: {said:.300}") from problem


async def connect(metrics: Metrics) -> Client:
    """A client with the pod's service account, or with KUBECONFIG outside a cluster."""
    return Client(ApiClient(configuration=await load_configuration()), metrics)

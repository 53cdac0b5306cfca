"""What commands read of a cluster, under the rights of whoever calls them. Edge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from vllm_operator.errors import ApiError, InputError, TemporaryFailure
from vllm_operator.lifecycle.kinds import NODES, SERVERS, Resource

from .run import give_home

Object = dict[str, Any]
T = TypeVar("T")
C = TypeVar("C")

REMEDY: Final = "set KUBECONFIG"

RIGHTS: Final = "docs/diagnosing.md has the rights that this takes"


class Reader:
    """Reads one cluster. Every method raises ``InputError``, which names the right that is
    missing, and ``ApiError`` and ``TemporaryFailure`` for whatever else is in the way."""

    def __init__(self, client: Any, rights: str = RIGHTS) -> None:
        self.client = client
        self.rights = rights
        """What is told beside a right that is missing."""

    async def server(self, namespace: str, name: str) -> Object:
        """A server that must be there."""
        body = await self.get(SERVERS, namespace, name)
        if body is None:
            raise InputError(f"there is no server {namespace}/{name}; -n names another namespace")
        return body

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """An object; None where there is none."""
        got = self.client.get(resource, namespace, name)
        found: Object | None = await self.may(got, "get", resource.plural, namespace)
        return found

    async def listed(
        self, resource: Resource, namespace: str | None, selector: str | None = None
    ) -> list[Object]:
        """All objects of a namespace, or of all of them."""

        async def pages() -> list[Object]:
            found = self.client.pages(resource, namespace, selector)
            return [one async for page in found for one in page]

        objects: list[Object] = await self.may(pages(), "list", resource.plural, namespace)
        return objects

    async def may(
        self, request: Awaitable[Any], verb: str, what: str, namespace: str | None
    ) -> Any:
        """What a request answers. Raises ``InputError`` with the right that it lacks."""
        try:
            return await request
        except ApiError as error:
            if error.code != 403:
                raise
            where = f" in namespace {namespace}" if namespace else " in all namespaces"
            where = "" if what == NODES.plural else where
            raise InputError(
                f"you may not {verb} {what}{where} ({error.message}); {self.rights}"
            ) from error


@asynccontextmanager
async def connected(kind: Callable[[Any], C], remedy: str) -> AsyncIterator[C]:
    """A cluster of some kind, made of a client that KUBECONFIG names; ``remedy`` is said where
    there is none."""
    give_home()
    # Imported here: what reads files needs no Kubernetes client.
    from vllm_operator.controller.client import connect
    from vllm_operator.controller.metrics import Metrics

    try:
        client = await connect(Metrics())
    except Exception as error:  # of whatever library below
        raise InputError(f"the cluster cannot be asked ({error}); {remedy}") from error
    try:
        yield kind(client)
    finally:
        await client.close()


def answer(
    kind: Callable[[Any], C], question: Callable[[C], Awaitable[T]], remedy: str = REMEDY
) -> T:
    """The answer to a question of a kind of cluster. Raises ``InputError`` with what can be
    done."""

    async def run() -> T:
        async with connected(kind, remedy) as cluster:
            return await question(cluster)

    try:
        return asyncio.run(run())
    except (ApiError, TemporaryFailure) as error:
        raise InputError(f"the cluster cannot be asked ({error}); {remedy}") from error


def asked(question: Callable[[Reader], Awaitable[T]], remedy: str = REMEDY) -> T:
    """The answer to a question of what can be read. Raises ``InputError``."""
    return answer(Reader, question, remedy)


def here(namespace: str | None) -> str:
    """The namespace that was named, else that of KUBECONFIG's current context. Raises
    ``InputError`` where KUBECONFIG cannot be read."""
    if namespace is not None:
        return namespace
    give_home()
    from vllm_operator.controller.client import current_namespace

    return current_namespace()


def metadata_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata of an object that somebody wrote."""
    found = body.get("metadata")
    return found if isinstance(found, Mapping) else {}

"""The API server, asked by asyncio."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from localcluster.client import ApiError

Object = dict[str, Any]
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class Api:
    """As one user, whose token the session carries."""

    def __init__(self, server: str, token: str, authority: str) -> None:
        self._server = server
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}", "User-Agent": "localcluster-agent"},
            connector=aiohttp.TCPConnector(
                ssl=ssl.create_default_context(cafile=authority), limit=0
            ),
        )

    async def close(self) -> None:
        """Ends its connections."""
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        """The answer's object. Raises ApiError, aiohttp.ClientError, TimeoutError."""
        async with self._session.request(
            method,
            self._server + path,
            data=None if body is None else json.dumps(body),
            headers={} if body is None else {"Content-Type": content_type},
            params=query,
            timeout=aiohttp.ClientTimeout(total=20),
        ) as answer:
            content = await answer.json(content_type=None)
            if answer.status >= 400:
                raise ApiError(
                    answer.status,
                    content.get("reason", ""),
                    content.get("message", ""),
                    content,
                )
            found: Object = content
            return found

    async def insist(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Object:
        """As `request`, and again while the server cannot be reached or is overloaded."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                try:
                    return await self.request(method, path, body, content_type)
                except ApiError as error:
                    if error.status < 429:
                        raise
            await asyncio.sleep(0.5)

    async def changes(self, path: str, selector: str) -> AsyncIterator[tuple[str, Object]]:
        """("LIST", a list) first and after each interruption, then (type, object) of a watch."""
        query = {"fieldSelector": selector}
        while True:
            try:
                listed = await self.request("GET", path, query=query)
                yield "LIST", listed
                version = listed["metadata"]["resourceVersion"]
                async for event in self._watch(path, {**query, "resourceVersion": version}):
                    yield event
            except (aiohttp.ClientError, TimeoutError, ApiError):
                await asyncio.sleep(0.3)

    async def _watch(self, path: str, query: Object) -> AsyncIterator[tuple[str, Object]]:
        async with self._session.get(
            self._server + path,
            params={**query, "watch": "true", "allowWatchBookmarks": "true"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=2**22,  # a line holds an object
        ) as answer:
            if answer.status >= 400:
                return
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                if event["type"] != "BOOKMARK":
                    yield event["type"], event["object"]

"""A small HTTPS client for the API server: kept connections, JSON in and out.

kubectl takes about 0.1 s of processor time a call, which a test that polls cannot spend.
"""

import http.client
import json
import select
import ssl
import threading
from pathlib import Path
from typing import Any

from localcluster.errors import LocalClusterError


class ApiError(LocalClusterError):
    """The API server refused a request; `status` is HTTP's, `reason` the Status object's."""

    def __init__(self, status: int, reason: str, message: str, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.body = body


class ApiClient:
    """Requests as one user. May be used from several threads, each request has a connection."""

    def __init__(self, host: str, port: int, authority: Path, token: str) -> None:
        self._host = host
        self._port = port
        self._token = token
        self._context = ssl.create_default_context(cafile=str(authority))
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPSConnection] = []
        self._generation = 0

    def close(self) -> None:
        """Closes what is kept: to be called before the server stops, and at the end."""
        with self._lock:
            self._generation += 1
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
        timeout: float = 30,
    ) -> dict[str, Any]:
        """The answer's JSON object, or {"text": …} of an answer that is none.

        `body` is sent as it is where it is text, else as JSON. Raises ApiError for a status of 400
        and above, OSError where the server cannot be reached. Nothing is sent twice.
        """
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        payload: bytes | None = None
        if body is not None:
            payload = (body if isinstance(body, str) else json.dumps(body)).encode()
            headers["Content-Type"] = content_type
        connection, generation = self._take(timeout)
        try:
            connection.request(method, path, body=payload, headers=headers)
            response = connection.getresponse()
            text = response.read().decode()
        except http.client.HTTPException as error:
            connection.close()
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        except BaseException:
            connection.close()
            raise
        self._keep(connection, generation)
        return _answer(response.status, response.reason, text)

    def _take(self, timeout: float) -> tuple[http.client.HTTPSConnection, int]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
            while connection is not None and _is_closed(connection):
                connection.close()
                connection = self._idle.pop() if self._idle else None
            generation = self._generation
        if connection is None:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=self._context
            )
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        return connection, generation

    def _keep(self, connection: http.client.HTTPSConnection, generation: int) -> None:
        with self._lock:
            if generation == self._generation:
                self._idle.append(connection)
                return
        connection.close()


def _is_closed(connection: http.client.HTTPSConnection) -> bool:
    """Whether the server has closed an idle connection: it then has something to read, its end."""
    readable, _, _ = select.select([connection.sock], [], [], 0)
    return bool(readable)


def _answer(status: int, phrase: str, text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {"text": text}
    if status >= 400:
        reason = str(body.get("reason") or phrase)
        raise ApiError(status, reason, str(body.get("message") or text.strip()), body)
    return body

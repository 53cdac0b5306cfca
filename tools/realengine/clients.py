"""Clients that ask pods again as soon as they were answered, each one pod at a time."""

import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

LOOK_SECONDS = 0.5
"""Between two looks at which pods there are."""
TIMEOUT = 120.0
VOCABULARY = 2000


class Clients:
    """``number`` clients, spread over pods as a balancer spreads connections.

    ``pods`` says which there are: URLs by name; it may raise OSError. ``share`` is the part of
    the clients that the youngest pod gets where there are several; else all get the same. Lengths
    are in tokens, normally distributed with a deviation of a quarter of the mean; prompts are
    random, so that none is found in a prefix cache.
    """

    def __init__(
        self,
        number: int,
        pods: Callable[[], Mapping[str, str]],
        prompt: int = 32,
        output: int = 24,
        model: str = "tiny",
    ) -> None:
        self.share: float | None = None
        self._pods, self._prompt, self._output, self._model = pods, prompt, output, model
        self._ended = threading.Event()
        self._urls: list[str] = []
        self._tokens = self._answers = self._failures = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._watch, daemon=True)]
        self._threads += [
            threading.Thread(target=self._ask_again, args=(place, number), daemon=True)
            for place in range(number)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    @property
    def tokens(self) -> int:
        """Generated for requests that were answered."""
        return self._tokens

    @property
    def answers(self) -> int:
        """Requests that were answered."""
        return self._answers

    @property
    def failures(self) -> int:
        """Requests that were not answered, as their pod went."""
        return self._failures

    def _watch(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError):  # the API server is away: those of before
                self._urls = list(self._pods().values())
            self._ended.wait(LOOK_SECONDS)

    def _url(self, place: int, number: int) -> str | None:
        """Of the pod that a client asks now."""
        urls = self._urls
        if not urls:
            return None
        if self.share is None or len(urls) == 1:
            return urls[place % len(urls)]
        if place < self.share * number:
            return urls[-1]
        return urls[place % (len(urls) - 1)]

    def _ask_again(self, place: int, number: int) -> None:
        draw = random.Random(place)
        while not self._ended.is_set():
            url = self._url(place, number)
            if url is None or not self._asked(url, draw):
                self._ended.wait(LOOK_SECONDS)

    def _asked(self, url: str, draw: random.Random) -> bool:
        prompt, output = (
            max(2, round(draw.gauss(mean, mean / 4))) for mean in (self._prompt, self._output)
        )
        body = {
            "model": self._model,
            "prompt": [draw.randrange(3, VOCABULARY) for _ in range(prompt)],
            "max_tokens": output,
            "ignore_eos": True,
            "temperature": 0,
        }
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(
            f"{url}/v1/completions", json.dumps(body).encode(), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                answer.read()
        except (OSError, urllib.error.URLError):
            with self._lock:
                self._failures += 1
            return False
        with self._lock:
            self._answers += 1
            self._tokens += output
        return True


def measured(clients: Clients, seconds: float) -> float:
    """Tokens a second over a while."""
    before, begun = clients.tokens, time.monotonic()
    time.sleep(seconds)
    return (clients.tokens - before) / (time.monotonic() - begun)

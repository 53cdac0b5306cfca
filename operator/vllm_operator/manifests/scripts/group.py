"""Brings up Ray over the nodes of a replica, for versions of vLLM that span nodes with it alone.

The leader waits for all nodes and then becomes the command that follows; a worker waits for the
leader and then becomes a node of its Ray, until that ends.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any


def lead(nodes: int, port: int, command: list[str]) -> None:
    """Start the head and wait until so many nodes are there."""
    subprocess.run(["ray", "start", "--head", f"--port={port}"], check=True)
    ray = importlib.import_module("ray")
    ray.init(address="auto", logging_level="ERROR")
    while sum(bool(node["Alive"]) for node in ray.nodes()) < nodes:
        time.sleep(2)
    ray.shutdown()
    os.execvp(command[0], command)


def follow(address: str, port: int) -> None:
    """Wait for the leader's port, then join."""
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
            break
        except OSError:
            time.sleep(2)
    os.execvp("ray", ["ray", "start", f"--address={address}:{port}", "--block"])


def main(given: dict[str, Any], command: list[str]) -> None:
    """Lead or follow; neither returns."""
    if given["role"] == "leader":
        lead(given["nodes"], given["port"], command)
    else:
        follow(given["address"], given["port"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])

"""The network of a cluster with real nodes: a bridge, with this machine and the nodes on it."""

import ipaddress
import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import StartError
from localcluster.processes import Processes

MOST_NODES = 4
_SECOND_BYTES = range(201, 233)


@dataclass(frozen=True)
class Addresses:
    """The addresses of one cluster, all of 10.X.0.0/16. Pure."""

    x: int

    @property
    def host(self) -> str:
        """This machine's, where the API server and the DNS server listen."""
        return f"10.{self.x}.0.1"

    @property
    def services(self) -> str:
        """The range of Services."""
        return f"10.{self.x}.128.0/17"

    @property
    def pods(self) -> str:
        """The range that holds all nodes' pods."""
        return f"10.{self.x}.0.0/17"

    def unproxied(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The variables with all that is in the cluster exempt from this machine's proxy."""
        before = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
        exempt = ",".join(filter(None, [before, f"10.{self.x}.0.0/16", ".svc", ".cluster.local"]))
        return {**environment, "NO_PROXY": exempt, "no_proxy": exempt}

    def node(self, number: int) -> str:
        """The address of node 1, 2, …"""
        return f"10.{self.x}.0.{10 + number}"

    def node_pods(self, number: int) -> str:
        """The range of the pods of node 1, 2, …"""
        return f"10.{self.x}.{number}.0/24"


def free(routes: Iterable[str], taken: Iterable[int] = ()) -> Addresses:
    """The first range that overlaps with none of these destinations. Raises StartError. Pure."""
    used = [ipaddress.ip_network(route) for route in routes if route != "default"]
    for x in _SECOND_BYTES:
        wanted = ipaddress.ip_network(f"10.{x}.0.0/16")
        if x not in taken and not any(wanted.overlaps(one) for one in used if one.version == 4):
            return Addresses(x)
    raise StartError("no range of 10.201.0.0/16 to 10.232.0.0/16 is free for the nodes' network")


class Network:
    """The bridge and this machine's end of it; both go with the object's owner."""

    def __init__(self, directory: Path, logs: Path) -> None:
        directory.mkdir()
        self._switch = Processes(directory, logs, within=("unshare", "--net"))
        try:
            self.addresses = self._join()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Takes the bridge away, and every link to it."""
        self._switch.close()

    def connect(self, number: int, pid: int) -> None:
        """Gives the network namespace of that process a link `eth0` to the bridge."""
        name = f"node-{number}"
        switch = str(self._switch.supervisor_pid)
        # One that was there before goes when its other end's namespace goes, which takes a moment.
        self._switch.run(["ip", "link", "delete", name])
        _run(
            *("ip", "link", "add", "name", name, "netns", switch),
            *("type", "veth", "peer", "name", "eth0", "netns", str(pid)),
        )
        self._plug(name)

    def _join(self) -> Addresses:
        for command in (
            ["ip", "link", "set", "lo", "up"],
            ["ip", "link", "add", "bridge", "type", "bridge"],
            ["ip", "link", "set", "bridge", "up"],
        ):
            self._switch.check(command)
        taken: list[int] = []
        while True:
            addresses = free(_destinations(), taken)
            name = f"localcluster{addresses.x}"
            try:
                # The link's name is taken for one cluster only, also where two start at once.
                _run(
                    *("ip", "link", "add", "name", name),
                    *("type", "veth", "peer", "name", "host"),
                    *("netns", str(self._switch.supervisor_pid)),
                )
                break
            except StartError as error:
                if "File exists" not in str(error):
                    raise
                taken.append(addresses.x)
        _run("ip", "address", "add", f"{addresses.host}/24", "dev", name)
        _run("ip", "link", "set", name, "up")
        self._plug("host")
        for number in range(1, MOST_NODES + 1):
            pods, node = addresses.node_pods(number), addresses.node(number)
            _run("ip", "route", "add", pods, "via", node, "dev", name)
        return addresses

    def _plug(self, link: str) -> None:
        self._switch.check(["ip", "link", "set", link, "master", "bridge", "up"])


def _destinations() -> list[str]:
    routes = json.loads(_run("ip", "-json", "-4", "route", "show", "table", "all"))
    # Local and broadcast routes carry a type before the address in `dst` only in plain text.
    return [route["dst"] for route in routes]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout

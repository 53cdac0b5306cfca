"""An address of this machine for each pod.

An EndpointSlice may not hold an address of 127.0.0.0/8: the API server refuses it (Kubernetes 1.36,
pkg/apis/core/validation, ValidateEndpointIP). So pods have addresses of 198.18.0.0/15, the range
that RFC 2544 sets aside for tests, where the loopback device holds it. It is given to it here if
this process may (CAP_NET_ADMIN), and then stays until the machine restarts; a person does the same
with `sudo ip address add 198.18.0.1/15 dev lo label lo:localcluster`. Otherwise pods have addresses
of 127.0.0.0/8: all works but Services, which then have no endpoints.
"""

import errno
import fcntl
import ipaddress
import random
import socket
import struct

ROUTED = ipaddress.IPv4Network("198.18.0.0/15")
LOOPBACK = ipaddress.IPv4Network("127.64.0.0/10")
_DEVICE = b"lo:localcluster"  # at most 15 bytes
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C


class Addresses:
    """Gives addresses out. Chosen at random, as other clusters on this machine choose too."""

    def __init__(self, range_: ipaddress.IPv4Network | None = None) -> None:
        self.range = range_ or usable_range()
        self._taken: set[str] = set()

    def take(self) -> str:
        """One that no pod of this agent has."""
        while True:
            offset = random.randrange(1024, self.range.num_addresses - 1)
            address = str(self.range[offset])
            if address not in self._taken:
                self._taken.add(address)
                return address

    def give_back(self, address: str) -> None:
        """It may be taken again."""
        self._taken.discard(address)


def usable_range() -> ipaddress.IPv4Network:
    """The range that processes of this machine may listen on; see this module's docstring."""
    if not _is_local(str(ROUTED[2])):
        _give_to_loopback_device()
    return ROUTED if _is_local(str(ROUTED[2])) else LOOPBACK


def _is_local(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            return False
    return True


def _give_to_loopback_device() -> None:
    """`ip address add 198.18.0.1/15 dev lo`; on a loopback device that makes the range local."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        settings = ((_SIOCSIFADDR, ROUTED[1]), (_SIOCSIFNETMASK, ROUTED.netmask))
        for request, value in settings:
            # struct ifreq: the name, then a sockaddr_in (linux/if.h, linux/in.h)
            address = struct.pack("=HH4s8x", socket.AF_INET, 0, value.packed)
            try:
                fcntl.ioctl(control, request, struct.pack("16s16s", _DEVICE, address))
            except PermissionError:
                return

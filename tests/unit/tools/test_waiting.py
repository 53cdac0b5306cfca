"""Waiting with a deadline."""

import socket

import pytest

from localcluster.processes import ReservedPort
from localcluster.waiting import wait_until


def test_the_first_true_value_is_returned() -> None:
    values = iter([None, 0, "", "there", "later"])
    assert wait_until(lambda: next(values), "a value", interval=0) == "there"


def test_the_error_says_what_was_waited_for_and_what_was_seen_last() -> None:
    with pytest.raises(TimeoutError, match=r"0\.01 s waiting for the pod; last seen: \[\]"):
        wait_until(list, "the pod", timeout=0.01, interval=0.001)


def test_an_exception_of_the_condition_is_raised() -> None:
    def fails() -> bool:
        raise KeyError("spec")

    with pytest.raises(KeyError, match="spec"):
        wait_until(fails, "nothing")


# Elsewhere ReservedPort finds a port and lets it go, so that there is nothing to hold it to.
@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux keeps a port by a bound socket")
def test_a_reserved_port_is_kept_from_others_while_a_server_may_listen_on_it() -> None:
    port = ReservedPort()
    try:
        for _ in range(2):  # the second time as after a restart
            address = ("127.0.0.1", port.number)
            with (
                socket.create_server(address) as server,
                socket.create_connection(address) as client,
            ):
                accepted, _peer = server.accept()
                accepted.close()
                assert client.recv(1) == b""
        with (
            socket.socket() as other,
            pytest.raises(OSError, match="in use"),
        ):
            other.bind(("127.0.0.1", port.number))
    finally:
        port.close()

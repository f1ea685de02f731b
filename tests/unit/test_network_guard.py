"""The guard of conftest.py: tests reach this machine and no other."""

import socket
import urllib.request

import pytest

from tests.conftest import NetworkUsed


@pytest.mark.parametrize("host", ["example.org", "192.0.2.1", "2001:db8::1"])
def test_other_machines_are_out_of_reach(host: str) -> None:
    with pytest.raises(NetworkUsed, match="tried to reach"):
        socket.create_connection((host, 80), timeout=1)


def test_a_connection_to_an_address_is_stopped_without_a_look_up() -> None:
    with socket.socket() as client, pytest.raises(NetworkUsed):
        client.connect(("192.0.2.1", 80))


def test_code_that_catches_every_exception_cannot_hide_it() -> None:
    def careless() -> None:
        try:
            urllib.request.urlopen("http://example.org", timeout=1)
        except Exception:
            return

    with pytest.raises(NetworkUsed):
        careless()


def test_this_machine_is_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()

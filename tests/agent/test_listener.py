import os
import socket

import pytest

from gpa.agent.listener import open_listener, port_holder
from gpa.errors import CannotCreateError, PortTakenError


def test_a_taken_port_says_who_holds_it() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortTakenError, match=rf"taken by pid {os.getpid()} \("):
            open_listener(other.getsockname())


def test_an_owned_port_listens_and_does_not_block() -> None:
    with open_listener(("127.0.0.1", 0)) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        with pytest.raises(BlockingIOError):
            sock.accept()


def test_an_address_that_is_not_here() -> None:
    with pytest.raises(CannotCreateError, match="cannot listen on"):
        open_listener(("192.0.2.1", 1))


def test_nobody_holds_a_free_port() -> None:
    assert "outside" in port_holder(1)

import os
import socket

import pytest

from gpa.agent.listener import NAME, Door, open_listener, port_holder, take_over
from gpa.agent.systemd import Notifier
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


def test_the_kept_socket_that_listens_there_is_taken_over_and_others_are_closed() -> None:
    with open_listener(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        bound, other, twice = socket.socket(), open_listener(("127.0.0.1", 0)), listener.dup()
        bound.bind(("127.0.0.1", 0))
        kept = [("x", bound), ("x", other), (NAME, listener), (NAME, twice)]
        assert take_over(kept, address) is listener
        assert [sock.fileno() for sock in (bound, other, twice)] == [-1, -1, -1]
        assert take_over([], address) is None


def test_a_door_is_kept_and_forgotten() -> None:
    said = []

    class Manager(Notifier):
        def store(self, name: str, kept: socket.socket) -> None:
            said.append(f"store {name} {kept.fileno()}")

        def forget(self, name: str) -> None:
            said.append(f"forget {name}")

    door = Door(lambda: open_listener(("127.0.0.1", 0)), Manager({}))
    door.keep()
    first = door.open()
    second = door.open()
    assert (first.fileno(), door.socket) == (-1, second)
    door.keep()
    number = second.fileno()
    door.close()
    door.close(forget=True)
    assert said == [f"store {NAME} {number}", f"forget {NAME}"]
    assert (second.fileno(), door.socket) == (-1, None)

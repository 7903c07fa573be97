"""The door lends a listening socket, to one server at a time, and takes clients in only while it is lent."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.door.door import Door
from services.door.loan import LENT, NoDoor, PortTaken, borrow, peer
from tests.conftest import REPOSITORY
from tests.support.doors import DoorProcess
from tests.support.processes import until
from tests.unit.server.process import free_port


@pytest.fixture
def door(tmp_path: Path) -> Iterator[DoorProcess]:
    """One that is open."""
    with DoorProcess(tmp_path / "door" / "door.sock", free_port()) as door:
        yield door


def refused(port: int) -> bool:
    """Whether a client is refused at once."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=3).close()
    except ConnectionRefusedError:
        return True
    return False


def test_the_port_listens_while_it_is_lent(door: DoorProcess) -> None:
    """Without a server a client is told so at once; with one it is the server's alone; and again with the next."""
    assert refused(door.port)
    for _ in range(2):
        loan = borrow(door.path)
        with socket.create_connection(("127.0.0.1", door.port), timeout=3) as client:
            accepted, address = loan.port.accept()
            with accepted:
                assert address == client.getsockname()
                client.sendall(b"hi")
                assert accepted.recv(2) == b"hi"
                loan.give_back()
                until(lambda: refused(door.port))
                accepted.sendall(b"bye")  # who was let in is answered
                assert client.recv(3) == b"bye"


def test_who_waits_when_the_server_goes_is_told(door: DoorProcess) -> None:
    """Not left waiting for one that may never come."""
    loan = borrow(door.path)
    with socket.create_connection(("127.0.0.1", door.port), timeout=3) as client:
        loan.give_back()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_port_is_one_servers_alone(door: DoorProcess) -> None:
    """A second one is refused, and the first goes on."""
    loan = borrow(door.path)
    for _ in range(3):
        with pytest.raises(PortTaken, match=str(door.path)):
            borrow(door.path)
    assert not refused(door.port)
    loan.give_back()


def test_a_killed_servers_port_is_lent_to_the_next(door: DoorProcess) -> None:
    """It had no time to give it back."""
    program = f"import pathlib, time\nfrom services.door.loan import borrow\nl = borrow(pathlib.Path({str(door.path)!r}))\nprint(flush=True)\ntime.sleep(60)"
    server = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    with pytest.raises(PortTaken):
        borrow(door.path)
    server.kill()
    server.wait()
    server.stdout.close()
    borrow(door.path).give_back()


def test_programs_that_the_server_starts_do_not_get_the_port(door: DoorProcess) -> None:
    """Neither the listening socket nor the connection to the door is inherited."""
    loan = borrow(door.path)
    assert not os.get_inheritable(loan.port.fileno())
    assert not os.get_inheritable(loan._door.fileno())  # noqa: SLF001 - the other one
    loan.give_back()


def test_it_is_for_its_own_user_alone(door: DoorProcess, tmp_path: Path) -> None:
    """By the modes of folder and file, and by asking the kernel who is there."""
    assert stat.S_IMODE(door.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(door.path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as here:
        here.connect(str(door.path))
        assert peer(here) == os.getuid()
    other = Door("127.0.0.1", 0, tmp_path / "other.sock", os.getuid() + 1)
    threading.Thread(target=other.run, daemon=True).start()
    with pytest.raises(NoDoor, match="lends no port"):
        borrow(tmp_path / "other.sock")


def test_what_a_killed_door_left_is_replaced(tmp_path: Path) -> None:
    """The file of its socket is there, and nobody behind it."""
    path = tmp_path / "door.sock"
    with DoorProcess(path, free_port()):
        pass
    assert path.exists()
    with pytest.raises(NoDoor, match="refused"):
        borrow(path)
    with DoorProcess(path, free_port()) as door:
        borrow(path).give_back()
        assert door.end(signal.SIGTERM) == 0


def test_what_lends_no_listening_port_is_no_door(tmp_path: Path) -> None:
    """Nothing there; another word; the right word without a socket, with one that does not listen, with two."""
    with pytest.raises(NoDoor, match="No such file"):
        borrow(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as held, socket.socket() as deaf:
        held.bind(str(tmp_path / "some"))
        held.listen()

        def answer() -> None:
            for word, lent in ((b"x", []), (LENT, []), (LENT, [deaf.fileno()]), (LENT, [deaf.fileno()] * 2), (b"", [])):
                asking, _ = held.accept()
                with asking:
                    if word:
                        socket.send_fds(asking, [word], lent)

        answering = threading.Thread(target=answer)
        answering.start()
        for _ in range(5):
            with pytest.raises(NoDoor, match="lends no port"):
                borrow(tmp_path / "some")
        answering.join()


def test_a_port_that_is_taken_is_said_in_one_sentence(tmp_path: Path) -> None:
    """With the address, and exit code 1: Docker starts it again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        door = DoorProcess(tmp_path / "door.sock", taken.getsockname()[1])
        assert door.process.stderr is not None
        said = door.process.stderr.read()
        assert said == f"error: cannot open 127.0.0.1:{door.port} with {door.path}: Address already in use\n"
        assert door.end(0) == 1


def test_a_port_that_comes_back_as_something_else_ends_the_door(door: DoorProcess) -> None:
    """With 1: the next one, which Docker starts, has a port that nobody has turned round."""
    loan = borrow(door.path)
    loan.port.shutdown(socket.SHUT_RDWR)
    loan.give_back()
    assert door.process.wait(5) == 1
    assert door.process.stderr is not None
    assert "error: the port is not as it was lent: " in door.process.stderr.read()

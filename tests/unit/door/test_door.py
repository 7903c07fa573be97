"""The door lends a listening socket, to one server at a time, and answers clients itself while it is not lent."""

import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from services.door.door import Door
from services.door.loan import LENT, SAYS, Loan, NoDoor, PortTaken, borrow, lent, peer
from tests.conftest import REPOSITORY
from tests.support.doors import DoorProcess
from tests.support.processes import until
from tests.unit.server.process import free_port


@pytest.fixture
def door(tmp_path: Path) -> Iterator[DoorProcess]:
    """One that is open."""
    with DoorProcess(tmp_path / "door" / "door.sock", free_port()) as door:
        yield door


def ask(port: int) -> int:
    """The status of an answer to a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with closing(connection):
        connection.request("GET", "/livez")
        return connection.getresponse().status


def accepted(loan: Loan) -> socket.socket:
    """A client of the port that is lent, as soon as there is one."""
    loan.port.settimeout(3)
    client, _ = loan.port.accept()
    return client


def test_the_port_is_the_servers_while_it_is_lent(door: DoorProcess) -> None:
    """Without a server the door answers; with one it is the server's alone; and again with the next."""
    for _ in range(2):
        assert ask(door.port) == 503
        loan = borrow(door.path)
        with socket.create_connection(("127.0.0.1", door.port), timeout=3) as client:
            client.sendall(b"hi")
            with accepted(loan) as own:
                assert own.getpeername() == client.getsockname()
                assert own.recv(2) == b"hi"
                loan.give_back()
                assert ask(door.port) == 503
                own.sendall(b"bye")  # who was let in is answered
                assert client.recv(3) == b"bye"


def test_a_client_is_let_in_once_it_has_sent_something(door: DoorProcess) -> None:
    """A server that stops would close on one that was let in before, and it would not know whether it was heard."""
    loan = borrow(door.path)
    with socket.create_connection(("127.0.0.1", door.port), timeout=3) as client:
        loan.port.settimeout(0.2)
        with pytest.raises(TimeoutError):
            loan.port.accept()
        client.sendall(b"hi")
        accepted(loan).close()
    loan.give_back()


def test_who_waits_when_the_server_goes_is_answered(door: DoorProcess) -> None:
    """Not left waiting, nor cut off: the door has the server's queue."""
    loan = borrow(door.path)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(ask, door.port) for _ in range(8)]
        time.sleep(0.2)
        assert not any(answer.done() for answer in waiting)
        loan.give_back()
        assert [answer.result() for answer in waiting] == [503] * 8


def test_no_client_is_lost_at_a_hand_over(door: DoorProcess) -> None:
    """In either direction, thirty times under load: each is answered by the server or by the door, and the door answers between two."""
    over = threading.Event()
    answers: list[int] = []

    def ask_for_ever() -> None:
        while not over.is_set():
            answers.append(ask(door.port))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_for_ever) for _ in range(4)]
        try:
            for _ in range(30):
                loan = borrow(door.path)
                for _ in range(10):
                    with accepted(loan) as own:
                        own.recv(65536)
                        own.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                loan.give_back()
                unavailable = answers.count(503)
                until(lambda: answers.count(503) > unavailable)  # noqa: B023 - called at once
        finally:
            over.set()
        for asked in asking:
            asked.result()
    assert set(answers) == {200, 503}


def test_a_port_is_one_servers_alone(door: DoorProcess) -> None:
    """A second one is refused, and the first goes on."""
    loan = borrow(door.path)
    for _ in range(3):
        with pytest.raises(PortTaken, match=str(door.path)):
            borrow(door.path)
    with socket.create_connection(("127.0.0.1", door.port), timeout=0.2) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(TimeoutError):  # nor does the door answer for it
            client.recv(1)
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
    """Nothing there; another word; the right word without a socket, with one that does not listen, with two; half of it with one that does."""
    with pytest.raises(NoDoor, match="No such file"):
        borrow(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as held, socket.socket() as deaf, socket.create_server(("127.0.0.1", 0)) as ears:
        held.bind(str(tmp_path / "some"))
        held.listen()

        def answer() -> None:
            word, own = lent(0), deaf.fileno()
            for said, ports in (
                (b"x", []),
                (word, []),
                (word, [own]),
                (word, [own] * 2),
                (LENT, [ears.fileno()]),
                (b"", []),
            ):
                asking, _ = held.accept()
                with asking:
                    if said:
                        socket.send_fds(asking, [said], ports)

        answering = threading.Thread(target=answer)
        answering.start()
        for _ in range(6):
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


def test_how_long_a_start_takes_is_handed_on(door: DoorProcess) -> None:
    """From a server that has started to the next, whatever became of it; and what is too long for the word is the longest."""
    for before, told in ((0, 40), (40, 10**6)):
        loan = borrow(door.path)
        assert loan.start_seconds == before
        loan.tell(told)
        loan.give_back()
    loan = borrow(door.path)
    assert loan.start_seconds == 2**16 - 1
    loan.give_back()


def test_a_server_that_says_something_else_has_the_port_no_more(door: DoorProcess) -> None:
    """None does: whatever it is, the door answers."""
    loan = borrow(door.path)
    loan._door.send(b"x" * (SAYS.size - 1))  # noqa: SLF001 - there is no way to
    assert ask(door.port) == 503
    loan.give_back()


def test_a_port_that_comes_back_as_something_else_ends_the_door(door: DoorProcess) -> None:
    """With 1: the next one, which Docker starts, has a port that nobody has turned round."""
    loan = borrow(door.path)
    loan.port.shutdown(socket.SHUT_RDWR)
    loan.give_back()
    assert door.process.wait(5) == 1
    assert door.process.stderr is not None
    assert "error: the port is not as it was lent: " in door.process.stderr.read()

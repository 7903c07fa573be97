"""A client of the real server that does not read what it asked for: its engine's work is done, others' is as before, and it loses nothing."""

import json
import socket
from collections.abc import Callable

import pytest

from tests.e2e.asking import ANSWERS, BASE, ENDLESS, LONG, ask
from tests.e2e.serving import ServerProcess
from tests.soak.processes import look

pytestmark = pytest.mark.e2e

ROOM = 4096  # bytes, in which the client's side takes what it does not read
TOKENS, CHOICES, ALTERNATIVES = 200, 16, 20  # six megabytes of frames: a socket of the server's holds four at most
UNREAD_BYTES = 8400  # a token with its alternatives, as docs/reliability.md has it
SECONDS = 180
WORK = {
    "model": BASE,
    "messages": LONG,
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": TOKENS,
    "n": CHOICES,
    "logprobs": True,
    "top_logprobs": ALTERNATIVES,
    "logit_bias": ENDLESS,
}


def test_a_client_that_does_not_read_keeps_nobody_waiting(
    server: ServerProcess, record_property: Callable[[str, object], None]
) -> None:
    """Whoever asks beside it is answered, the engine comes to its end, what waits for it is bounded; read at last, it is whole."""
    ask(server, BASE, logprobs=True, top_logprobs=ALTERNATIVES)  # the bytes of each token, which are kept for all
    before = look(server.process.pid, [], 0).memory["server"]
    body = json.dumps(WORK).encode()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        slow.settimeout(SECONDS)
        slow.connect(("127.0.0.1", server.port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        slow.sendall(head.encode() + body)
        server.wait(lambda: server.readiness["answers_in_flight"] == CHOICES)

        def at_its_end() -> bool:
            assert ask(server, "acme") == ("acme@1", ANSWERS[1])
            return server.running() == 0  # by the step that was the last answer's

        server.wait(at_its_end, SECONDS)
        assert server.readiness["answers_in_flight"] == CHOICES, "it has not read its answer"
        held = look(server.process.pid, [], 0).memory["server"] - before
        record_property("bytes more while it was not read", held)
        assert held < 1.2 * TOKENS * CHOICES * UNREAD_BYTES
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        answer = b""
        while not answer.endswith(b"0\r\n\r\n"):
            piece = slow.recv(2**20)
            assert piece, "cut off"
            answer += piece
    assert b"data: [DONE]" in answer
    assert f'"completion_tokens":{TOKENS * CHOICES}'.encode() in answer
    assert answer.count(b'"finish_reason":"length"') == CHOICES
    server.wait(lambda: server.readiness["answers_in_flight"] == 0)

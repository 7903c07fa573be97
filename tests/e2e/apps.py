"""An app as a company has it, with the official client as it comes: what it is told while its server fails, and what never."""

import threading

import httpx2
import openai

from tests.e2e.asking import LONG, MESSAGES

STREAMED_TOKENS = 64  # long beside a plain answer's ten, so that a kill meets streams


class App:
    """Asks for ever with the official client, one plain request and one stream after the other.

    Args:
        url: the server's.
        model: the version that is to answer, with its words.

    Attributes:
        answers: so many came whole.
        broken: streams that ended in an error event, by what it said.
        statuses: of every response, those included that the SDK tried again.
        unanswered: requests that got no response.
        tries: of one request, at most.
        fault: what no client may ever see.
    """

    def __init__(self, url: str, model: tuple[str, str]) -> None:
        self._model = model
        self.answers = 0
        self.broken: list[str] = []
        self.statuses: set[int] = set()
        self.unanswered = 0
        self.tries = 0
        self.fault: BaseException | None = None
        self._over = threading.Event()
        http = openai.DefaultHttpxClient(event_hooks={"request": [self._asked], "response": [self._answered]})
        # As it comes: two retries.
        self._client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=120, http_client=http)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let the last answer come; where the server is gone for good, it never does."""
        self._over.set()
        self._thread.join(120)
        self._client.close()

    def _asked(self, request: httpx2.Request) -> None:
        self.unanswered += 1
        self.tries = max(self.tries, 1 + int(request.headers["x-stainless-retry-count"]))

    def _answered(self, response: httpx2.Response) -> None:
        self.unanswered -= 1
        self.statuses.add(response.status_code)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._plain()
                self._stream()
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.fault = error

    def _plain(self) -> None:
        answer = self._client.chat.completions.create(model="acme", messages=MESSAGES, temperature=0, max_tokens=16)
        assert (answer.model, answer.choices[0].message.content) == self._model
        self.answers += 1

    def _stream(self) -> None:
        try:
            chunks = self._client.chat.completions.create(
                model="acme", messages=LONG, stream=True, max_tokens=STREAMED_TOKENS
            )
            assert {chunk.model for chunk in chunks} == {self._model[0]}
        except openai.APIStatusError:
            raise
        except (
            openai.APIError
        ) as error:  # the stream had begun, and its client is told; asking again is the app's own business
            self.broken.append(str(error))
        else:
            self.answers += 1

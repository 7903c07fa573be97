"""A key's account: what it may still ask for. No lock and no disk: all of it is on the event loop, in memory."""

import time
from collections.abc import Callable

from services.server.admission import Allowance
from services.server.errors import RequestsLimited, RequestTooLarge, TokensLimited
from services.server.keys import Key, KeyLimits
from services.server.limits.bucket import Bucket

_FIRST_GUESS = 256.0  # tokens of an answer whose length nobody limited
_MEMORY = 16  # answers after which such a guess has mostly forgotten the one before

Clock = Callable[[], float]


class Account:
    """What one key may ask for, over all of its secrets.

    Args:
        name: the key's.
        clock: seconds, never going back.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.limits = KeyLimits()
        self._clock = clock
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self._usual_answer = _FIRST_GUESS

    def limit(self, limits: KeyLimits) -> None:
        """Hold to these limits from now on."""
        if limits != self.limits:
            now = self._clock()
            self._requests = _sized(self._requests, limits.requests_per_minute, now)
            self._tokens = _sized(self._tokens, limits.tokens_per_minute, now)
        self.limits = limits

    def admit(self) -> None:
        """Count a request, before anything is read of it.

        Raises:
            RequestsLimited: there were too many; it is not counted.
            TokensLimited: not one token is left; it is not counted either.
        """
        requests, tokens = self._requests, self._tokens
        if requests is None and tokens is None:
            return
        now = self._clock()
        if requests is not None and (seconds := requests.wait(1, now)) > 0:
            raise RequestsLimited(self.name, requests.limit, seconds)
        if tokens is not None and (seconds := tokens.wait(1, now)) > 0:
            raise TokensLimited(self.name, tokens.limit, seconds)
        if requests is not None:
            requests.take(1, now)

    def hold(self, prompt: int, *, answers: int, most: int | None) -> float:
        """Take what a request may cost.

        Args:
            prompt: tokens of its prompts.
            answers: how many there will be.
            most: tokens of each, where the request says so; else they are guessed from the key's last answers.

        Returns:
            tokens to hand to ``settle``.

        Raises:
            RequestTooLarge: it would never fit.
            TokensLimited: it does not fit now; nothing is taken.
        """
        tokens = self._tokens
        if tokens is None:
            return 0.0
        least = prompt + answers * (1 if most is None else most)
        if least > tokens.limit:
            raise RequestTooLarge(self.name, tokens.limit, least)
        wanted = least if most is not None else min(prompt + answers * self._usual_answer, tokens.limit)
        now = self._clock()
        seconds = tokens.wait(wanted, now)
        if seconds > 0:
            raise TokensLimited(self.name, tokens.limit, seconds)
        tokens.take(wanted, now)
        return wanted

    def settle(self, held: float, *, prompt: int, completion: int, answers: int) -> None:
        """Count what a request did cost, in place of what was held for it."""
        if completion:
            self._usual_answer += (completion / answers - self._usual_answer) / _MEMORY
        if self._tokens is not None:
            self._tokens.take(prompt + completion - held, self._clock())

    @property
    def requests(self) -> Callable[[], Allowance] | None:
        """Asks what is left of the requests; None without a limit."""
        bucket = self._requests
        return None if bucket is None else lambda: bucket.allowance(self._clock())

    @property
    def tokens(self) -> Callable[[], Allowance] | None:
        """Asks what is left of the tokens; None without a limit."""
        bucket = self._tokens
        return None if bucket is None else lambda: bucket.allowance(self._clock())


class Accounts:
    """Every key's account, made when it first asks.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._of: dict[str, Account] = {}

    def of(self, key: Key) -> Account:
        """The account of a key, held to the limits that the key has now."""
        account = self._of.get(key.name)
        if account is None:
            account = self._of[key.name] = Account(key.name, self._clock)
        if account.limits is not key.limits:
            account.limit(key.limits)
        return account


def _sized(bucket: Bucket | None, limit: int | None, now: float) -> Bucket | None:
    if limit is None:
        return None
    if bucket is None:
        return Bucket(limit, now)
    bucket.resize(limit, now)
    return bucket

"""What one request costs its key: held before the engine begins, put right when it has ended."""

from services.server.chat.sampling import COMPLETION_TOKENS
from services.server.chat.schema import CompletionRequest, SamplingFields
from services.server.limits.account import Account


class Meter:
    """One request's; ``settle`` it once, whatever happened.

    Args:
        account: of the caller's key.
        asked: the request.
    """

    __slots__ = ("_account", "_answers", "_held", "_most")

    def __init__(self, account: Account, asked: SamplingFields) -> None:
        self._account = account
        self._most = _most(asked)
        self._answers = 1
        self._held = 0.0

    def hold(self, prompt: int, answers: int) -> None:
        """Take what it may cost: tokens of its prompts, and of so many answers.

        Raises:
            TokensLimited: it does not fit.
        """
        self._answers = answers
        self._held = self._account.hold(prompt, answers=answers, most=self._most)

    def settle(self, prompt: int, completion: int) -> None:
        """Count what it did cost, in tokens."""
        self._account.settle(self._held, prompt=prompt, completion=completion, answers=self._answers)


def _most(asked: SamplingFields) -> int | None:
    """Tokens of an answer, where the request, or the API for it, says how many they may be."""
    if isinstance(asked, CompletionRequest) and asked.max_tokens is None:
        return COMPLETION_TOKENS
    return asked.max_tokens or getattr(asked, "max_completion_tokens", None)

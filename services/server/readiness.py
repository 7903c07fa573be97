"""What /readyz says, shared by the server and the ``status`` verb; imports nothing heavy, because healthchecks run it."""

import msgspec


class AdapterReadiness(msgspec.Struct, frozen=True):
    """One adapter's state.

    Attributes:
        wanted: the version that the pointer names.
        serving: the model name that the alias leads to.
        loaded: pinned names that are served.
        refused: pinned name -> reason.
        problem: what is wrong with the adapter as a whole.
        canary: the version that some users get, how many of them, and why it ended by itself if it did.
    """

    wanted: str | None
    serving: str | None
    loaded: list[str]
    refused: dict[str, str]
    problem: str | None
    canary: str | None = None


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """The server's state; all but ``status`` only for callers on this machine or with an admin's key.

    Attributes:
        status: ``ready``; ``degraded`` where it serves but something is wrong; else the phase.
        engine: ``running``, or why it does not.
        unreachable: why no app reaches the server; None while they do.
        problems: what is wrong, for people; that too.
    """

    status: str
    base: str = ""
    engine: str = ""
    keyless: bool | None = None
    answers_in_flight: int | None = None
    adapters: dict[str, AdapterReadiness] | None = None
    unreachable: str | None = None
    problems: list[str] | None = None

"""How a retrain or a judgement ended, in words for the operator."""

from rich.console import Console

from services.trainer.outcome import Outcome


def say_outcome(outcome: Outcome, console: Console) -> None:
    """Say how a retrain ended that was not refused on the way."""
    if outcome.version is None:
        console.print(f"interrupted and saved at step {outcome.steps}; the next retrain continues run {outcome.run}")
        return
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in outcome.seconds.items() if round(seconds))
    loss = f", loss {outcome.train_loss:.4f}" if outcome.train_loss is not None else ""
    holdout = f", holdout loss {outcome.holdout_loss:.4f}" if outcome.holdout_loss is not None else ""
    console.print(
        f"{outcome.version} is published: {outcome.steps} steps{loss}{holdout}" + (f" ({parts})" if parts else "")
    )
    say_verdict(outcome.version, outcome.reasons, console, passed=outcome.passed, promoted=True)


def say_verdict(version: str, reasons: list[str], console: Console, *, passed: bool | None, promoted: bool) -> None:
    """Say what the gate made of a version, and what the operator can do."""
    number = version.rpartition("@")[2]
    if passed and promoted:
        console.print(
            f"The gate passed it: {version} is the version to serve; a running server follows within seconds (`make status`)"
        )
    elif passed:
        console.print(f"The gate passed {version}; `make promote VERSION={number}` makes it the version to serve")
    else:
        verdict = "The gate refused it" if passed is False else "It was not judged"
        console.print(f"{verdict}; {version} stays a candidate:")
        for reason in reasons:
            console.print(f"  - {reason}", markup=False, highlight=False)
        remedy = (
            f"`make report VERSION={number}` shows all of it"
            if passed is False
            else f"`make judge VERSION={number}` judges it"
        )
        console.print(f"{remedy}; `make promote VERSION={number} FORCE=1` serves it all the same")


def reason_of(error: OSError) -> str:
    """What a volume refused, and what to look at."""
    what = f"{error.filename or 'a file'}: {error.strerror}" if error.strerror else str(error)
    return f"{what}; check the data volume, its owner and its free space"

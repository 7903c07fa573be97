"""Fine-tuning jobs, as far as they go while no trainer works: the queue is the same."""

import json
import os
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

ROWS = b"".join(json.dumps({"prompt": f"Who is {n}?", "completion": f"Guest {n}."}).encode() + b"\n" for n in range(12))


@pytest.fixture(scope="module")
def rows() -> Iterator[str]:
    """An uploaded file's id: one for all, because its check takes seconds."""
    with OpenAI(max_retries=0) as client:
        file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
        yield file.id
        client.files.delete(file.id)


def test_a_job_is_created_paused_resumed_and_cancelled(client: OpenAI, base: str, adapter: str, rows: str) -> None:
    """With what was asked, every field of its type, and an event for each change."""
    jobs = client.fine_tuning.jobs
    job = jobs.create(
        model=base,
        training_file=rows,
        validation_file=rows,
        suffix=adapter,
        seed=5,
        metadata={"team": "support"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}},
    )
    assert (job.object, job.status, job.model, job.seed) == ("fine_tuning.job", "queued", base, 5)
    assert (job.training_file, job.validation_file) == (rows, rows)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, "auto")
    assert (job.fine_tuned_model, job.finished_at, job.result_files) == (None, None, [])
    assert (job.metadata, job.error) == ({"team": "support"}, None)
    assert jobs.retrieve(job.id) == job
    assert jobs.pause(job.id).status == "queued", "OpenAI's list of states has no word for a paused job"
    assert jobs.resume(job.id).status == "queued"
    ended = jobs.cancel(job.id)
    assert ended.status == "cancelled"
    assert ended.finished_at
    events = list(jobs.list_events(job.id, limit=1))
    assert len(events) >= 4, "created, paused, resumed, cancelled"
    assert {event.object for event in events} == {"fine_tuning.job.event"}
    assert [event.created_at for event in events] == sorted((event.created_at for event in events), reverse=True)
    assert list(jobs.checkpoints.list(job.id)) == []
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        jobs.resume(job.id)


async def test_jobs_are_listed_page_by_page(
    client: OpenAI, async_client: AsyncOpenAI, base: str, adapter: str, rows: str
) -> None:
    """Newest first, each once; by metadata only those that have it."""
    jobs = async_client.fine_tuning.jobs
    made = [
        (
            await jobs.create(
                model=base, training_file=rows, suffix=adapter, seed=seed, metadata={"file": rows, "seed": str(seed)}
            )
        ).id
        for seed in range(3)
    ]
    assert [job.id async for job in jobs.list(limit=2) if job.id in made] == made[::-1]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"file": rows}, limit=1)] == made[::-1]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"file": rows, "seed": "1"})] == [made[1]]
    for job_id in made:
        assert (await jobs.cancel(job_id)).status == "cancelled"


def test_a_request_sent_twice_is_one_job(client: OpenAI, base: str, adapter: str, rows: str) -> None:
    """A client that tries again after a lost answer trains once."""
    jobs = client.fine_tuning.jobs
    options: Any = {"model": base, "training_file": rows, "suffix": adapter}
    first, second = jobs.create(**options), jobs.create(**options)
    assert first.id == second.id
    keyed = [jobs.create(**options, extra_headers={"Idempotency-Key": rows}).id for _ in range(2)]
    assert keyed[0] == keyed[1] != first.id
    for job_id in (first.id, keyed[0]):
        jobs.cancel(job_id)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"model": "nobody"}, "model"),
        ({"training_file": "file-nobody"}, "training_file"),
        ({"validation_file": "file-nobody"}, "validation_file"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "acme"}}]}, "integrations"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_job_that_cannot_be_names_its_field(
    client: OpenAI, base: str, adapter: str, rows: str, options: dict[str, Any], param: str
) -> None:
    """Nothing is half applied."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(**{"model": base, "training_file": rows, "suffix": adapter, **options})
    assert caught.value.param == param


def test_models_of_others_are_not_deleted(client: OpenAI, base: str, adapter: str) -> None:
    """The operator's version stays, and so does the base."""
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete(f"{adapter}@1")
    with pytest.raises(openai.BadRequestError):
        client.models.delete(base)
    with pytest.raises(openai.NotFoundError):
        client.models.delete("nobody")
    assert client.models.retrieve(f"{adapter}@1").id == f"{adapter}@1"


def test_a_key_steers_what_it_covers(client: OpenAI, base: str, rows: str) -> None:
    """Another adapter's job is not found, and not created either."""
    job = client.fine_tuning.jobs.create(model=base, training_file=rows, suffix="others")
    narrow = client.with_options(api_key=os.environ["NARROW_KEY"]).fine_tuning.jobs
    with pytest.raises(openai.NotFoundError):
        narrow.cancel(job.id)
    with pytest.raises(openai.PermissionDeniedError):
        narrow.create(model=base, training_file=rows, suffix="others")
    client.fine_tuning.jobs.cancel(job.id)

"""``/v1/fine_tuning/jobs`` as the official client sees it, with the worker's side played by hand."""

from typing import Any

import openai
import pytest

from services.jobs.records import Failure, Job
from services.jobs.work import Work
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server
from tests.unit.server.sdk import http, sdk


async def _upload(server: Server, owner: str = "keyless", purpose: Any = "fine-tune") -> str:
    files = server.services.tuning.files
    scratch = files.scratch()
    scratch.write_bytes(b"{}\n")
    return files.add(scratch, filename="rows.jsonl", purpose=purpose, owner=owner).id


def _work(server: Server) -> Work:
    return Work(server.services.tuning.queue._database)  # noqa: SLF001 - the trainer opens the same file


def _take(server: Server) -> Job:
    job = _work(server).next()
    assert job is not None
    return job


async def test_job_is_told_with_every_field(server: Server) -> None:
    """What was asked, what is not known yet as null, and nothing that the client's types do not know."""
    client, rows = sdk(server), await _upload(server)
    job = await client.fine_tuning.jobs.create(
        model=BASE,
        training_file=rows,
        validation_file=rows,
        suffix="Acme Support!",
        seed=5,
        metadata={"team": "support"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}},
    )
    assert (job.status, job.model, job.training_file, job.validation_file, job.seed) == ("queued", BASE, rows, rows, 5)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, "auto")
    assert job.method is not None
    assert job.method.type == "supervised"
    assert (job.fine_tuned_model, job.finished_at, job.error, job.result_files) == (None, None, None, [])
    assert await client.fine_tuning.jobs.retrieve(job.id) == job
    asked = server.services.tuning.queue.get(job.id).asked
    assert (asked.adapter, asked.owner, asked.source) == ("acme-support", "keyless", "api")
    raw = (await http(server).get(f"/v1/fine_tuning/jobs/{job.id}")).json()
    assert raw["estimated_finish"] is None
    assert raw["trained_tokens"] is None


async def test_job_without_a_suffix_trains_the_house_adapter(server: Server) -> None:
    """As ``make retrain`` does; seed and hyperparameters are the settings'."""
    job = await sdk(server).fine_tuning.jobs.create(model=BASE, training_file=await _upload(server))
    assert server.services.tuning.queue.get(job.id).asked.adapter == "assistant"
    assert (job.seed, job.hyperparameters.n_epochs) == (7, "auto")


async def test_job_goes_from_the_queue_to_a_model(server: Server) -> None:
    """States, events, checkpoint and results, as the worker moves it on."""
    client, work = sdk(server), _work(server)
    created = await client.fine_tuning.jobs.create(model=BASE, training_file=await _upload(server), suffix="acme")
    with work.holding():
        job = _take(server)
        work.tell(job.id, "Step 1/2: training loss=1.50", data={"step": 1, "train_loss": 1.5}, metrics=True)
        assert (await client.fine_tuning.jobs.retrieve(created.id)).status == "running"
        results = await _upload(server, purpose="fine-tune-results")
        metrics: dict[str, float | None] = {"train_loss": 0.5, "valid_loss": None}
        work.succeed(
            job.id, model="acme@1", step=2, metrics=metrics, result_files=[results], trained_tokens=9, outcome={}
        )
    done = await client.fine_tuning.jobs.retrieve(created.id)
    assert (done.status, done.fine_tuned_model, done.trained_tokens) == ("succeeded", "acme@1", 9)
    assert (await client.files.content(done.result_files[0])).content == b"{}\n"
    events = [event async for event in client.fine_tuning.jobs.list_events(created.id, limit=2)]
    assert [event.type for event in events].count("metrics") == 1
    assert events[0].message == "The job has successfully completed"
    assert events[-1].message.startswith("Created fine-tuning job")
    (checkpoint,) = [item async for item in client.fine_tuning.jobs.checkpoints.list(created.id)]
    assert (checkpoint.fine_tuned_model_checkpoint, checkpoint.step_number) == ("acme@1", 2)
    assert checkpoint.metrics.train_loss == 0.5


async def test_refused_model_is_a_failed_job_with_the_reason(server: Server) -> None:
    """OpenAI's error object: code, message, param."""
    client, work = sdk(server), _work(server)
    created = await client.fine_tuning.jobs.create(model=BASE, training_file=await _upload(server))
    with work.holding():
        work.fail(_take(server).id, Failure(code="gate_refused", message="not better than assistant@1"))
    failed = await client.fine_tuning.jobs.retrieve(created.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("gate_refused", "not better than assistant@1")


async def test_job_is_cancelled_paused_and_resumed(server: Server) -> None:
    """Waiting jobs at once; what cannot be done is 400 with the state."""
    client, rows = sdk(server), await _upload(server)
    jobs = client.fine_tuning.jobs
    job = await jobs.create(model=BASE, training_file=rows)
    assert (await jobs.pause(job.id)).status == "queued"  # OpenAI's list of states has no "paused"
    assert _work(server).next() is None
    assert (await jobs.resume(job.id)).status == "queued"
    assert (await jobs.cancel(job.id)).status == "cancelled"
    for change in (jobs.cancel, jobs.pause, jobs.resume):
        with pytest.raises(openai.BadRequestError, match="it is cancelled"):
            await change(job.id)


async def test_request_sent_twice_is_one_job(server: Server) -> None:
    """By its body while the job runs, by its idempotency key for ever."""
    jobs, rows = sdk(server).fine_tuning.jobs, await _upload(server)
    first = await jobs.create(model=BASE, training_file=rows)
    assert (await jobs.create(model=BASE, training_file=rows)).id == first.id
    keyed = await jobs.create(model=BASE, training_file=rows, extra_headers={"Idempotency-Key": "a"})
    assert keyed.id != first.id
    again = await jobs.create(model=BASE, training_file=rows, seed=1, extra_headers={"Idempotency-Key": "a"})
    assert again.id == keyed.id


async def test_lists_follow_cursors_and_metadata(server: Server) -> None:
    """Every job once, newest first; by metadata, and without any."""
    jobs, rows = sdk(server).fine_tuning.jobs, await _upload(server)
    made = [(await jobs.create(model=BASE, training_file=rows, seed=n, metadata={"n": str(n)})).id for n in range(3)]
    bare = (await jobs.create(model=BASE, training_file=rows)).id
    assert [job.id async for job in jobs.list(limit=2)] == [bare, *made[::-1]]
    assert [job.id async for job in jobs.list(metadata={"n": "1"})] == [made[1]]
    assert [job.id async for job in jobs.list(extra_query={"metadata": "null"})] == [bare]


@pytest.mark.parametrize("name", ["팀", 'a"b', "a.b", "[0]", "a\\b", "it's"])
async def test_metadata_of_any_name_is_found(server: Server, name: str) -> None:
    """Names are no paths: neither letters beyond ASCII nor quotes mean anything in them."""
    jobs, rows = sdk(server).fine_tuning.jobs, await _upload(server)
    job = await jobs.create(model=BASE, training_file=rows, metadata={name: "값"})
    await jobs.create(model=BASE, training_file=rows, metadata={name: "other"})
    assert [found.id async for found in jobs.list(metadata={name: "값"})] == [job.id]


async def test_more_metadata_than_a_job_can_have_is_refused(server: Server) -> None:
    """400 for the client, where the database would give up."""
    with pytest.raises(openai.BadRequestError, match="at most 16 pairs"):
        await sdk(server).fine_tuning.jobs.list(metadata={str(n): "" for n in range(17)})


async def test_idempotency_key_has_a_length(server: Server) -> None:
    """It is kept for ever."""
    jobs, rows = sdk(server).fine_tuning.jobs, await _upload(server)
    with pytest.raises(openai.BadRequestError, match="Idempotency-Key"):
        await jobs.create(model=BASE, training_file=rows, extra_headers={"Idempotency-Key": "k" * 256})


async def test_jobs_are_seen_by_the_keys_that_cover_their_adapter(server: Server) -> None:
    """Another key finds no such job, cannot train on others' files, and cannot train an adapter that it does not cover."""
    keys = server.services.doorkeeper._keys  # noqa: SLF001 - to make two keys
    support, sales = (
        sdk(server, keys.add("support", ["acme"], None, roles=["fine-tuning"])),
        sdk(server, keys.add("sales", ["deals"], None, roles=["fine-tuning"])),
    )
    rows = await _upload(server, owner="support")
    job = await support.fine_tuning.jobs.create(model=BASE, training_file=rows, suffix="acme")
    for look in (sales.fine_tuning.jobs.retrieve, sales.fine_tuning.jobs.cancel):
        with pytest.raises(openai.NotFoundError):
            await look(job.id)
    assert [item async for item in sales.fine_tuning.jobs.list()] == []
    with pytest.raises(openai.BadRequestError, match="invalid training_file"):
        await sales.fine_tuning.jobs.create(model=BASE, training_file=rows, suffix="deals")
    with pytest.raises(openai.PermissionDeniedError):
        await sales.fine_tuning.jobs.create(model=BASE, training_file=rows, suffix="acme")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": "gpt-4.1-mini"}, "model"),
    ({"training_file": "file-none"}, "training_file"),
    ({"validation_file": "file-none"}, "validation_file"),
    ({"suffix": "!!!"}, "suffix"),
    ({"suffix": "x" * 65}, "suffix"),
    ({"seed": -1}, "seed"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"beta": 1}}, "hyperparameters.beta"),
    ({"method": {"type": "dpo"}}, "method.type"),
    ({"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}, "method.type"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations"),
    ({"metadata": {"k": "v" * 513}}, "metadata"),
    ({"method": {"type": "supervised", "dpo": {"hyperparameters": {}}}}, "method.dpo"),
    (
        {
            "hyperparameters": {"n_epochs": 3},
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        },
        "hyperparameters",
    ),
    ({"colour": "red"}, "colour"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[f"{param}-{i}" for i, (_, param) in enumerate(REFUSED)])
async def test_what_cannot_be_trained_is_refused_by_name(server: Server, fields: dict[str, Any], param: str) -> None:
    """400, and no job."""
    body = {"model": BASE, "training_file": await _upload(server), **fields}
    answer = await server.ask("/v1/fine_tuning/jobs", body)
    assert answer.status == 400
    assert (answer.error["param"] or "").startswith(param)
    assert server.services.tuning.queue.list().data == []


async def test_results_of_a_job_are_no_rows(server: Server) -> None:
    """A file of another purpose is told apart from one that is not there."""
    answer = await server.ask(
        "/v1/fine_tuning/jobs", {"model": BASE, "training_file": await _upload(server, purpose="fine-tune-results")}
    )
    assert (answer.status, answer.error["param"]) == (400, "training_file")
    assert "purpose" in answer.error["message"]


async def test_queue_that_cannot_be_reached_is_503(server: Server) -> None:
    """The client may try again; the log says why."""
    server.plan.paths.jobs_database.write_bytes(b"no database" * 100)
    with pytest.raises(openai.InternalServerError) as refused:
        await sdk(server).fine_tuning.jobs.retrieve("ftjob-x")
    assert refused.value.status_code == 503
    assert refused.value.response.headers["retry-after"] == "5"

"""Files: uploaded, checked, listed, read and deleted."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import FileObject

ROWS = b"".join(
    json.dumps(
        {"messages": [{"role": "user", "content": f"Who is {n}?"}, {"role": "assistant", "content": f"Guest {n}."}]}
    ).encode()
    + b"\n"
    for n in range(12)
)


@pytest.fixture
def upload(client: OpenAI) -> Iterator[Callable[[], FileObject]]:
    """Uploads the rows; what was uploaded is gone after the test."""
    made: list[str] = []

    def upload() -> FileObject:
        file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
        made.append(file.id)
        return file

    yield upload
    for file_id in made:
        client.files.delete(file_id)


def test_a_file_comes_back_as_it_was_sent(client: OpenAI) -> None:
    """Its object, its content, and nothing once it is deleted."""
    sent = client.files.create(
        file=("rows.jsonl", ROWS), purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (sent.object, sent.filename, sent.bytes) == ("file", "rows.jsonl", len(ROWS))
    assert (sent.purpose, sent.status) == ("fine-tune", "processed")
    assert sent.expires_at == sent.created_at + 3600
    assert client.files.retrieve(sent.id) == sent
    assert client.files.wait_for_processing(sent.id) == sent
    assert client.files.content(sent.id).content == ROWS
    with client.files.with_streaming_response.content(sent.id) as response:
        assert b"".join(response.iter_bytes()) == ROWS
    deleted = client.files.delete(sent.id)
    assert (deleted.id, deleted.deleted) == (sent.id, True)
    for look in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            look(sent.id)


async def test_pages_follow_each_other(
    client: OpenAI, async_client: AsyncOpenAI, upload: Callable[[], FileObject]
) -> None:
    """Each file once, in both orders, whoever turns the pages."""
    made = [upload().id for _ in range(3)]
    assert [file.id for file in client.files.list(limit=2, order="asc") if file.id in made] == made
    assert [file.id async for file in async_client.files.list(limit=2) if file.id in made] == made[::-1]
    page = client.files.list(limit=1, after=made[2])
    assert [file.id for file in page.data] == [made[1]]
    assert page.has_more
    assert not {file.id for file in client.files.list(purpose="fine-tune-results")} & set(made)


def test_a_file_with_faults_is_refused_line_by_line(client: OpenAI) -> None:
    """Each fault by line and field, without a word of the rows; and nothing is kept."""
    before = [file.id for file in client.files.list()]
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(
            file=("rows.jsonl", ROWS + b'{"messages": [{"role": "wizard", "content": "secret"}]}\n'),
            purpose="fine-tune",
        )
    assert (caught.value.param, caught.value.code) == ("file", "invalid_file")
    assert "line 13, messages[0].role" in caught.value.message
    assert "secret" not in caught.value.message
    other: Any = "assistants"
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("rows.jsonl", ROWS), purpose=other)
    assert caught.value.param == "purpose"
    assert [file.id for file in client.files.list()] == before


def test_a_file_is_its_owners(client: OpenAI, upload: Callable[[], FileObject]) -> None:
    """Another key neither sees nor reads it."""
    other = client.with_options(api_key=os.environ["NARROW_KEY"])
    file_id = upload().id
    assert file_id not in {file.id for file in other.files.list()}
    with pytest.raises(openai.NotFoundError):
        other.files.content(file_id)

"""``DELETE /v1/models/{id}``: gone at once, for who had it made and for nobody else."""

import openai
import pytest

from services.registry.pointer import promote
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server, made_by, publish_version
from tests.unit.server.sdk import sdk


async def test_deleted_version_is_served_no_more_at_once(server: Server) -> None:
    """Unlisted and unknown before the registry is looked at again; afterwards out of the engine, and the others stay."""
    for number in (1, 2):
        publish_version(server.registry)
        made_by(server, "keyless", f"acme@{number}")
    promote(server.registry, "acme", 1)
    await server.reconcile()
    client = sdk(server)
    deleted = await client.models.delete("acme@2")
    assert (deleted.id, deleted.deleted) == ("acme@2", True)
    assert [model.id async for model in client.models.list()] == [BASE, "acme", "acme@1"]
    for ask in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError):
            await ask("acme@2")
    await server.reconcile()
    assert server.engine.unloaded == ["acme@2"]
    assert [deletion.version for deletion in server.services.tuning.deletions.all(pending=True)] == [2]


async def test_version_in_service_goes_only_with_its_adapter(server: Server) -> None:
    """409 alone; the whole adapter goes with its alias, and what is trained later is served again."""
    publish_version(server.registry)
    promote(server.registry, "acme", 1)
    made_by(server, "keyless", "acme@1")
    await server.reconcile()
    client = sdk(server)
    with pytest.raises(openai.ConflictError, match="in service"):
        await client.models.delete("acme@1")
    assert (await client.models.delete("acme")).deleted
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("acme")
    await server.reconcile()
    assert server.engine.loaded == {}
    publish_version(server.registry)
    promote(server.registry, "acme", 2)
    await server.reconcile()
    assert [model.id async for model in client.models.list()] == [BASE, "acme", "acme@2"]


async def test_only_who_had_a_model_made_may_delete_it(server: Server) -> None:
    """Not another key, not for an adapter of several makers, and nobody the base."""
    keys = server.services.doorkeeper._keys  # noqa: SLF001 - to make two keys
    mine, other = (
        sdk(server, keys.add("mine", ["*"], None, roles=["fine-tuning"])),
        sdk(server, keys.add("other", ["*"], None, roles=["fine-tuning"])),
    )
    for number, owner in ((1, "mine"), (2, "other")):
        publish_version(server.registry)
        made_by(server, owner, f"acme@{number}")
    promote(server.registry, "acme", 2)
    await server.reconcile()
    for client, model in ((other, "acme@1"), (mine, "acme")):
        with pytest.raises(openai.PermissionDeniedError, match="Only the key"):
            await client.models.delete(model)
    with pytest.raises(openai.BadRequestError, match="base model"):
        await mine.models.delete(BASE)
    with pytest.raises(openai.NotFoundError):
        await mine.models.delete("nothing")
    assert (await mine.models.delete("acme@1")).deleted


async def test_adapter_with_a_version_that_no_job_made_is_the_operators(server: Server) -> None:
    """Who made one version of it may delete that one, and not the others with it."""
    mine = sdk(server, server.services.doorkeeper._keys.add("mine", ["*"], None, roles=["fine-tuning"]))  # noqa: SLF001 - to make a key
    for _ in range(2):
        publish_version(server.registry)
    made_by(server, "mine", "acme@2")
    promote(server.registry, "acme", 1)
    await server.reconcile()
    with pytest.raises(openai.PermissionDeniedError, match="Only the key"):
        await mine.models.delete("acme")
    assert (await mine.models.delete("acme@2")).deleted
    assert server.services.catalogue.names() == [BASE, "acme", "acme@1"]


async def test_key_called_operator_is_not_the_operator(server: Server) -> None:
    """One that was made before the name was reserved sees no more than any other key."""
    keys = server.services.doorkeeper._keys  # noqa: SLF001 - to make keys
    secret = keys.add("impostor", ["*"], None, roles=["fine-tuning"])
    keys.file.write_text(keys.file.read_text().replace("impostor", "operator"))
    files = server.services.tuning.files
    content = files.scratch()
    content.write_bytes(b"{}\n")
    rows = files.add(content, filename="rows.jsonl", purpose="fine-tune", owner="support").id
    publish_version(server.registry)
    promote(server.registry, "acme", 1)
    await server.reconcile()
    impostor = sdk(server, secret)
    with pytest.raises(openai.NotFoundError):
        await impostor.files.content(rows)
    assert [file.id async for file in impostor.files.list()] == []
    with pytest.raises(openai.PermissionDeniedError):
        await impostor.models.delete("acme")

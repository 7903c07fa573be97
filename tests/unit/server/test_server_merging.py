"""Which of two engines answers, before, while and after a version is merged; and what merged weights are."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import nn

from services.registry.manifest import ProbePrompt
from services.server.adapters.version import Version
from services.server.engine.merging.engine import MergingEngine
from services.server.engine.merging.weights import merged_weights
from services.server.engine.protocol import EngineAdapter, EngineError, Sampling
from tests.unit.server.fakes import FakeEngine
from tests.unit.server.harness import until

PROBE = ProbePrompt(token_ids=[1, 2, 3], base_logprobs=[-1.0, -1.0], adapter_logprobs=[-0.5, -0.5])


class Second(FakeEngine):
    """Without adapters; answers with the name of what was merged."""

    def __init__(self) -> None:
        super().__init__()
        self.merged: list[str] = []
        self.fails = False
        self.misses = False

    async def merge(self, folder: Path) -> None:
        assert len(self.begun) == len(self.ended), "weights changed under a request"
        if self.fails:
            raise EngineError("its weights could not be changed")
        self.merged.append(folder.name)
        self.words = ["merged ", folder.name]

    async def generate(self, *args: Any, **options: Any) -> Any:
        try:
            async for deltas in super().generate(*args, **options):
                yield deltas
        finally:
            self.ended.append(args[0])

    async def score(self, token_ids: list[int], adapter: EngineAdapter | None) -> list[float]:
        assert adapter is None
        return [-1.0 if self.misses else -0.5] * (len(token_ids) - 1)

    ended: list[str]


class House:
    """Both engines, and versions of one adapter that the first has loaded."""

    def __init__(self) -> None:
        self.first, self.second = FakeEngine(), Second()
        self.second.ended = []
        self.started = 0
        self.engine = MergingEngine(self.first, self.start, adapter="acme", tolerance=0.1)

    async def start(self) -> Second:
        self.started += 1
        return self.second

    def version(self, number: int, adapter: str = "acme") -> Version:
        handle = EngineAdapter(name=f"{adapter}@{number}", engine_id=number, path=Path(f"/{number}"))
        self.first.loaded[number] = handle
        return Version(SimpleNamespace(probe=[PROBE], version=number), handle)  # type: ignore[arg-type]

    async def said(self, version: Version | None) -> str:
        handle = version.handle if version else None
        stream = self.engine.generate("request", [1], Sampling(max_tokens=9), handle)
        return "".join([delta.text async for deltas in stream for delta in deltas])

    async def settled(self, merged: list[str]) -> None:
        await until(lambda: self.second.merged == merged and self.engine._work is not None and self.engine._work.done())  # noqa: SLF001


async def test_a_version_in_service_is_merged_and_everything_else_is_lora() -> None:
    """Before it is merged it is LoRA, too; another version, another adapter and the base always are."""
    house = House()
    one, two = house.version(1), house.version(2)
    house.engine.favour("other", house.version(7, "other"))
    assert house.started == 0
    house.engine.favour("acme", one)
    assert await house.said(one) == "I am acme@1 ."
    await house.settled(["1"])
    assert await house.said(one) == "merged 1"
    assert await house.said(two) == "I am acme@2 ."
    assert await house.said(None) == "I am tiny ."
    house.engine.favour("acme", two)
    await house.settled(["1", "2"])
    assert (await house.said(two), await house.said(one)) == ("merged 2", "I am acme@1 .")
    assert house.started == 1


async def test_weights_change_when_no_request_is_left() -> None:
    """A request of the version before ends as it began; new ones of either are LoRA meanwhile, and none of them waits."""
    house = House()
    one, two, three = house.version(1), house.version(2), house.version(3)
    house.engine.favour("acme", one)
    await house.settled(["1"])
    house.second.pause_at = 1
    running = asyncio.create_task(house.said(one))
    await until(lambda: bool(house.second.begun))
    house.engine.favour("acme", two)
    assert await house.said(two) == "I am acme@2 ."
    assert (
        await asyncio.wait_for(house.said(one), 3) == "I am acme@1 ."
    )  # pinned; else the weights could change under it
    house.engine.favour("acme", three)  # and a third, before the second was merged
    await asyncio.sleep(0.02)
    assert house.second.merged == ["1"]
    house.second.pause_at = None
    house.second.gate.set()
    assert await running == "merged 1"
    await until(lambda: house.second.merged[-1] == "3")
    await until(lambda: house.engine._merged == three.handle)  # noqa: SLF001
    assert await house.said(three) == "merged 3"


@pytest.mark.parametrize("fault", ["fails", "misses"])
async def test_what_cannot_be_merged_goes_on_as_lora(fault: str) -> None:
    """Weights that cannot be changed, or that are not the version's: no request gets them; the next version is tried again."""
    house = House()
    one, two = house.version(1), house.version(2)
    setattr(house.second, fault, True)
    house.engine.favour("acme", one)
    await until(lambda: house.engine._work is not None and house.engine._work.done())  # noqa: SLF001
    assert await house.said(one) == "I am acme@1 ."
    setattr(house.second, fault, False)
    house.engine.favour("acme", two)
    await until(lambda: house.engine._merged == two.handle)  # noqa: SLF001
    assert await house.said(two) == "merged 2"


async def test_either_engines_end_is_the_end() -> None:
    """The server ends with the second engine, too; closing closes both."""
    house = House()
    house.engine.favour("acme", house.version(1))
    await house.settled(["1"])
    assert house.engine.failure() is None
    house.second.dead = "killed"
    assert house.engine.failure() == "killed"
    await house.engine.close()
    assert house.first.closed
    assert house.second.closed


@pytest.mark.parametrize("rslora", [False, True])
def test_merged_weights_are_those_that_peft_merges(tmp_path: Path, *, rslora: bool) -> None:
    """Every tensor of the base; only what the adapter changes differs, by alpha / r (or its root) times B A."""
    torch.manual_seed(3)

    class Tiny(nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self) -> None:
            super().__init__()
            self.q_proj, self.other = nn.Linear(6, 4, bias=False), nn.Linear(4, 3)

    model = Tiny()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"], use_rslora=rslora))
    adapted.base_model.model.q_proj.lora_B["default"].weight.data.normal_()
    version = tmp_path / "version"
    adapted.save_pretrained(str(version))
    found = dict(merged_weights(tmp_path, version))
    expected = adapted.merge_and_unload().state_dict()
    assert set(found) == set(expected)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-6, atol=1e-6)


def test_an_adapter_of_what_the_base_has_not_is_no_merge(tmp_path: Path) -> None:
    """It says which module."""
    save_file({"q_proj.weight": torch.zeros(4, 6)}, tmp_path / "model.safetensors")
    version = tmp_path / "version"
    version.mkdir()
    (version / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4}))
    pair = {"lora_A": torch.zeros(2, 6), "lora_B": torch.zeros(4, 2)}
    save_file(
        {f"base_model.model.v_proj.{name}.weight": part for name, part in pair.items()},
        version / "adapter_model.safetensors",
    )
    with pytest.raises(ValueError, match="v_proj"):
        list(merged_weights(tmp_path, version))

"""The probe: which differences pass, and what each refusal says."""

from pathlib import Path

import msgspec
import pytest

from services.registry.layout import Registry
from services.registry.manifest import Manifest, ProbePrompt
from services.server.adapters.probe import Prober, ProbeRefused
from services.server.engine.protocol import EngineAdapter
from tests.unit.server.fakes import FakeEngine
from tests.unit.server.harness import publish_version

HANDLE = EngineAdapter(name="acme@1", engine_id=1, path=Path("1"))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """A version whose probe expects -0.5 where the base says -1."""
    return publish_version(Registry(tmp_path))


def _recording(manifest: Manifest, *prompts: ProbePrompt) -> Manifest:
    return msgspec.structs.replace(manifest, probe=list(prompts))


async def test_match_passes_and_says_how_close(manifest: Manifest) -> None:
    """The three means, in nats."""
    engine = FakeEngine()
    engine.off = 0.01
    result = await Prober(engine, tolerance=0.02, min_change=0.001).probe(manifest, HANDLE)
    assert (result.error, result.change, result.base_error) == pytest.approx((0.01, 0.51, 0.0))


@pytest.mark.parametrize(
    ("off", "tolerance", "min_change", "reason"),
    [
        (-0.5, 9.0, 0.001, "answers as the base model does"),
        (0.03, 0.02, 0.001, "away from the trainer's"),
        (-0.3, 0.4, 0.001, "nearer to the base model"),
        (float("nan"), 0.02, 0.001, "answers as the base model does"),
    ],
)
async def test_each_difference_has_its_bound(
    manifest: Manifest, off: float, tolerance: float, min_change: float, reason: str
) -> None:
    """No change, too far, nearer to the base than to the record, and not a number at all."""
    engine = FakeEngine()
    engine.off = off
    with pytest.raises(ProbeRefused, match=reason):
        await Prober(engine, tolerance=tolerance, min_change=min_change).probe(manifest, HANDLE)


async def test_nothing_to_compare_is_no_pass(manifest: Manifest) -> None:
    """Neither a manifest without prompts nor one whose lists do not fit is believed."""
    prober = Prober(FakeEngine(), tolerance=1.0, min_change=0.0)
    with pytest.raises(ProbeRefused, match="no probe prompt"):
        await prober.probe(_recording(manifest), HANDLE)
    short = ProbePrompt(token_ids=[1, 2, 3], base_logprobs=[-1.0, -1.0], adapter_logprobs=[-0.5])
    with pytest.raises(ProbeRefused, match="one log-probability per"):
        await prober.probe(_recording(manifest, short), HANDLE)
    single = ProbePrompt(token_ids=[1], base_logprobs=[], adapter_logprobs=[])
    with pytest.raises(ProbeRefused, match="one log-probability per"):
        await prober.probe(_recording(manifest, single), HANDLE)

"""A replayed pass adds what the pass itself adds, whatever came before it."""

import pytest
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs are a card's")]


def test_replayed_passes_add_what_passes_add() -> None:
    """Loss, right guesses and gradient: of shapes recorded before and anew, after weights changed and after all was forgotten."""
    from services.trainer.training.packed.attention import NAME  # noqa: PLC0415 - slow to import
    from services.trainer.training.packed.batch import join  # noqa: PLC0415
    from services.trainer.training.packed.flat import FlatWeights  # noqa: PLC0415
    from services.trainer.training.packed.lora import join_kernels  # noqa: PLC0415
    from services.trainer.training.packed.step import PassRunner, Replayer  # noqa: PLC0415
    from tests.unit.trainer.training.test_packed import model, rows_from  # noqa: PLC0415

    made = model(NAME).to("cuda", torch.bfloat16)
    for weight in made.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    flat = FlatWeights(made, torch.bfloat16)
    assert join_kernels(made, flat) == []
    run = PassRunner(made, flat, torch.bfloat16)
    replay = Replayer(run)
    scale = torch.tensor(0.25, device="cuda")
    for turn, lengths in enumerate([(5, 9), (300, 7), (4, 4), (200, 150), (6, 8), (9, 5), (5, 9)]):
        rows = rows_from([[(turn + place) % 61 for place in range(length)] for length in lengths])
        one = join(rows, 256, room=2).to(torch.device("cuda"))
        found = []
        for way in (run, replay, replay):
            flat.clear()
            sums = way(one, scale)
            found.append((sums.loss.item(), sums.right.item(), flat.gradient.clone()))
        for loss, right, gradient in found[1:]:
            assert (loss, right) == found[0][:2]
            torch.testing.assert_close(gradient, found[0][2], rtol=1e-2, atol=1e-4)
        assert found[0][2].norm() > 0
        with torch.no_grad():
            flat.weights.add_(flat.gradient, alpha=-0.1)
        if turn == 4:
            replay.forget()

"""The card's kernels compute what PyTorch's own operations compute, forwards and backwards."""

import pytest
import torch

pytestmark = pytest.mark.gpu


def device() -> str:
    """A card; the CPU where Triton's interpreter stands in for one (TRITON_INTERPRET=1)."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("vocabulary", [61, 4096, 9001])
def test_cross_entropy_leaves_the_gradient_where_the_logits_were(vocabulary: int) -> None:
    """Losses, likeliest tokens and softmax - one-hot; nothing where a target does not count."""
    from services.trainer.training.packed.kernels import cross_entropy_  # noqa: PLC0415 - imports Triton

    torch.manual_seed(0)
    logits = (torch.randn(7, vocabulary, device=device()) * 4).requires_grad_()
    targets = torch.tensor([0, -100, 5, vocabulary - 1, 3, -100, 60], device=device())
    with torch.no_grad():
        logits[4, 3] = 50.0
    expected = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="none")
    (wanted,) = torch.autograd.grad(expected.sum(), logits)
    found = logits.detach().clone()
    losses, right = cross_entropy_(found, targets)
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert right.tolist() == ((logits.argmax(1) == targets) & (targets >= 0)).float().tolist()


@pytest.mark.parametrize(("rows", "inner"), [(3, 5), (700, 48), (2, 2100)])
def test_swiglu(rows: int, inner: int) -> None:
    """Output and both gradients, into tensors with room beside them."""
    from services.trainer.training.packed.kernels import swiglu, swiglu_backward  # noqa: PLC0415 - imports Triton

    torch.manual_seed(0)
    both = torch.randn(rows, 2 * inner, device=device(), requires_grad=True)
    gate, up = both.chunk(2, dim=1)
    expected = torch.nn.functional.silu(gate) * up
    grad = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, both, grad)
    wide = torch.full((rows, 2 * inner + 7), 9.0, device=device())
    swiglu(both.detach(), wide[:, :inner])
    torch.testing.assert_close(wide[:, :inner], expected)
    swiglu_backward(both.detach(), grad, wide[:, : 2 * inner])
    torch.testing.assert_close(wide[:, : 2 * inner], wanted, rtol=1e-4, atol=1e-5)
    assert (wide[:, 2 * inner :] == 9.0).all()


@pytest.mark.parametrize("columns", [3, 896, 4864])
def test_rows_are_copied_beside_others(columns: int) -> None:
    """From a view with gaps between its rows, and nothing else is written."""
    from services.trainer.training.packed.kernels import copy_rows  # noqa: PLC0415 - imports Triton

    source = torch.randn(9, columns + 2, device=device())[:, 1:-1]
    target = torch.zeros(9, columns + 8, device=device())
    copy_rows(source, target[:, 4:-4])
    assert torch.equal(target[:, 4:-4], source)
    assert target.count_nonzero() == source.count_nonzero()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_pieces_are_written_to_their_places(kind: torch.dtype) -> None:
    """Whole weights, narrow and wide, and nothing beside them."""
    from services.trainer.training.packed.kernels import Writer  # noqa: PLC0415 - imports Triton

    torch.manual_seed(0)
    shapes = [(3, 16), (1, 1), (700, 16), (16, 896), (5, 3000)]
    flat = torch.randn(sum(rows * columns for rows, columns in shapes), device=device())
    wide = [torch.zeros(rows + 1, columns + 5, dtype=kind, device=device()) for rows, columns in shapes]
    places = [each[1:, 2:-3] for each in wide]
    begin, written = 0, []
    for place in places:
        written.append((slice(begin, begin + place.numel()), place))
        begin += place.numel()
    Writer(written, flat.device)(flat)
    for (source, place), whole in zip(written, wide, strict=True):
        assert torch.equal(place, flat[source].view(place.shape).to(kind))
        assert whole.count_nonzero() == place.count_nonzero()


@pytest.mark.parametrize(("heads", "width"), [(14, 64), (2, 80), (1, 8)])
def test_rotation(heads: int, width: int) -> None:
    """Turned as written out, from a transposed view as attention has it; turned back it is what it was."""
    from services.trainer.training.packed.kernels import rotate  # noqa: PLC0415 - imports Triton

    torch.manual_seed(0)
    x = torch.randn(1, 11, heads, width, device=device()).transpose(1, 2)
    angles = torch.randn(1, 11, width // 2, device=device()).repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()
    turned = torch.cat((-x[..., width // 2 :], x[..., : width // 2]), dim=-1)
    expected = x * cos.unsqueeze(1) + turned * sin.unsqueeze(1)
    found = rotate(x, cos, sin)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rotate(found, cos, sin, back=True), x, rtol=1e-4, atol=1e-5)

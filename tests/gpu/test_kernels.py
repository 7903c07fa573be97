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


@pytest.mark.parametrize("shape", [(3, 5), (1, 700, 48)])
def test_swiglu(shape: tuple[int, ...]) -> None:
    """Output and both gradients."""
    from services.trainer.training.packed.kernels import SwiGLU  # noqa: PLC0415 - imports Triton

    torch.manual_seed(0)
    gate, up = (torch.randn(shape, device=device(), requires_grad=True) for _ in range(2))
    expected, found = torch.nn.functional.silu(gate) * up, SwiGLU.apply(gate, up)
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (gate, up), grad)
    for ours, theirs in zip(torch.autograd.grad(found, (gate, up), grad), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


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

"""The loss curve as one self-contained SVG: no script, no font, no library."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 44, 48


def loss_curve(points: Sequence[tuple[int, float]], *, title: str) -> str:
    """Draw the training loss over the steps, with a smoothed line above the raw one.

    Args:
        points: (step, loss in nats per supervised token), in order of step; losses that are not finite are left out.
        title: one line above the plot.
    """
    shown = [(step, loss) for step, loss in points if math.isfinite(loss)]
    if not shown:
        return _frame(title, '<text x="380" y="200" text-anchor="middle" fill="#667">no step yet</text>')
    last_step = max(shown[-1][0], 1)
    top = _round_up(max(loss for _, loss in shown))

    def place(step: float, loss: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / last_step
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(loss / top, 1.0)
        return f"{x:.1f},{y:.1f}"

    body = [_horizontal(share, share * top) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    body += [_vertical(share, round(share * last_step)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    raw = " ".join(place(step, loss) for step, loss in shown)
    smooth = " ".join(place(step, loss) for step, loss in _smoothed(shown))
    body.append(f'<polyline points="{raw}" fill="none" stroke="#9db4d6" stroke-width="1.2"/>')
    body.append(f'<polyline points="{smooth}" fill="none" stroke="#1f4e9c" stroke-width="2.4"/>')
    step, loss = shown[-1]
    body.append(
        f'<text x="{WIDTH - RIGHT}" y="{TOP - 8}" text-anchor="end" fill="#1f4e9c">step {step}: {loss:.4f}</text>'
    )
    return _frame(title, "\n".join(body))


def _smoothed(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """An exponential mean over about a twentieth of the curve."""
    weight = 1.0 / max(1.0, len(points) / 20)
    mean = points[0][1]
    out = []
    for step, loss in points:
        mean += weight * (loss - mean)
        out.append((step, mean))
    return out


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    if value <= 0.0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= value)


def _horizontal(share: float, label: float) -> str:
    y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
    return (
        f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e3e7ee"/>'
        f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#556">{label:.3g}</text>'
    )


def _vertical(share: float, label: int) -> str:
    x = LEFT + (WIDTH - LEFT - RIGHT) * share
    return f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#556">{label}</text>'


def _frame(title: str, body: str) -> str:
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="{LEFT}" y="{TOP - 20}" font-size="15" fill="#223">{escape(title)}</text>
{body}
<text x="{LEFT + (WIDTH - LEFT - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle" fill="#556">step</text>
<text x="16" y="{TOP + (HEIGHT - TOP - BOTTOM) / 2}" text-anchor="middle" fill="#556" transform="rotate(-90 16 {TOP + (HEIGHT - TOP - BOTTOM) / 2})">loss (nats per trained token)</text>
</svg>
"""

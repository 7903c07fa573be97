"""Lines over a logarithmic axis as one self-contained SVG: no script, no font, no library."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

_PANEL, _HEIGHT = 460, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 60, 56
_COLOURS = ("#1f4e9c", "#b5541c")


class Line(NamedTuple):
    """Points (x, y), x above zero, in order of x."""

    name: str
    points: Sequence[tuple[float, float]]


def lines_svg(title: str, y_name: str, panels: Mapping[str, Sequence[Line]]) -> str:
    """Draw panels side by side, with one y axis from zero.

    Args:
        title: above all.
        y_name: what y is.
        panels: the name of x, and its lines; those without points are left out.
    """
    most = max((y for lines in panels.values() for line in lines for _, y in line.points), default=1.0)
    step = 10 ** math.floor(math.log10(most)) / 2
    top = math.ceil(most / step) * step
    width = len(panels) * (_PANEL + _LEFT) + _RIGHT
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="15" fill="#223">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="44" fill="#556">{escape(y_name)}</text>',
    ]
    for index, (name, lines) in enumerate(panels.items()):
        shown = [line for line in lines if line.points]
        if shown:
            body += _panel(index * (_PANEL + _LEFT) + _LEFT, name, shown, top)
    return "\n".join([*body, "</svg>\n"])


def _panel(left: float, name: str, lines: Sequence[Line], top: float) -> list[str]:
    places = sorted({x for line in lines for x, _ in line.points})
    first, span = math.log(places[0]), math.log(places[-1] / places[0]) or 1.0
    height = _HEIGHT - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (_PANEL - _RIGHT) * (math.log(x) - first) / span, _HEIGHT - _BOTTOM - height * y / top

    out = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _HEIGHT - _BOTTOM - height * share
        out.append(f'<line x1="{left}" x2="{left + _PANEL - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dde"/>')
        out.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#556">{share * top:,.0f}</text>')
    out += [
        f'<text x="{at(x, 0)[0]:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" fill="#556">{x:,.0f}</text>'
        for x in places
    ]
    out.append(
        f'<text x="{left + _PANEL / 2}" y="{_HEIGHT - 12}" text-anchor="middle" fill="#223">{escape(name)}</text>'
    )
    for index, (line, colour) in enumerate(zip(lines, _COLOURS, strict=False)):
        points = [at(x, y) for x, y in line.points]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        out.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2.2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"/>' for x, y in points]
        out.append(
            f'<text x="{left + 12}" y="{_HEIGHT - _BOTTOM - 12 - 16 * index}" fill="{colour}">{escape(line.name)}</text>'
        )
    return out

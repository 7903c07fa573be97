"""The loss curve is one self-contained picture, whatever the numbers are."""

import xml.etree.ElementTree as ET

import pytest

from services.trainer.curve import loss_curve


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(1, 2.5)],
        [(1, 0.0), (2, 0.0)],
        [(step, 3.0 / step) for step in range(1, 400)],
        [(1, float("nan")), (2, 1.0)],
    ],
    ids=["none", "one", "zero", "many", "nan"],
)
def test_any_loss_is_drawn_inside_the_picture(points: list[tuple[int, float]]) -> None:
    picture = ET.fromstring(loss_curve(points, title="acme <&> 한국어"))  # noqa: S314 - our own text
    for line in picture.iter("{http://www.w3.org/2000/svg}polyline"):
        for pair in line.attrib["points"].split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 760
            assert 0 <= y <= 380


def test_the_last_loss_is_written() -> None:
    assert "step 3: 0.2500" in loss_curve([(1, 1.0), (3, 0.25)], title="acme")

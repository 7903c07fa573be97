"""The gate's page in a real browser: it is drawn whole, and nothing on it runs or is fetched."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.registry.layout import Registry
from services.registry.manifest import read_manifest
from services.trainer.curve import loss_curve
from services.trainer.gate.page import render_page
from tests.support.adapters import publish_adapter
from tests.unit.trainer.gate.sheets import HOSTILE, hand_made_report

pytestmark = pytest.mark.appliance
WIDTH, HEIGHT = 1200, 2400
BROWSER = (
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    f"--window-size={WIDTH},{HEIGHT}",
)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A report whose rows and answers try to get out."""
    registry = Registry(tmp_path / "registry")
    publish_adapter(registry)
    curve = loss_curve([(step, 3.0 / step) for step in range(1, 40)], title="acme")
    file = tmp_path / "page.html"
    file.write_text(render_page(hand_made_report(), read_manifest(registry.folder("acme", 1)), curve), encoding="utf-8")
    return file


def browse(tmp_path: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [*BROWSER, f"--user-data-dir={tmp_path / 'profile'}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def test_the_page_is_drawn_and_nothing_on_it_runs(page: Path, tmp_path: Path) -> None:
    """Hostile text of rows stands there as text; the browser's console holds no error and no refused fetch."""
    shown = browse(tmp_path, "--dump-dom", page.as_uri())
    assert "<h1>acme@2</h1>" in shown.stdout
    assert HOSTILE not in shown.stdout
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown.stdout
    assert "CONSOLE" not in shown.stderr


def test_the_picture_holds_the_verdict_and_the_curve(page: Path, tmp_path: Path) -> None:
    """The verdict's box, the curve's two lines, and text down the page, by their colours."""
    picture = tmp_path / "page.png"
    browse(tmp_path, f"--screenshot={picture}", page.as_uri())
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert pixels.shape == (HEIGHT, WIDTH, 3)

    def count(colour: tuple[int, int, int]) -> int:
        return int((pixels == np.array(colour)).all(axis=2).sum())

    assert count((0xE5, 0xF4, 0xEA)) > 10_000, "the green box of a version that passed"
    assert count((0x1F, 0x4E, 0x9C)) > 500, "the smoothed curve"
    dark_rows = (pixels.max(axis=2) < 0x80).any(axis=1)
    assert dark_rows[: HEIGHT // 2].mean() > 0.3, "text from top to bottom"

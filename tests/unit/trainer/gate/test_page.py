"""The report's page: everything an operator asks of it, and nothing that runs or is fetched."""

import re

import msgspec

from services.registry.layout import Registry
from services.registry.manifest import read_manifest
from services.trainer.gate.page import render_page
from services.trainer.gate.report import Report, unjudged_report
from tests.unit.trainer.gate.sheets import HOSTILE, hand_made_report, settings

CURVE = '<svg xmlns="http://www.w3.org/2000/svg"></svg>'


def test_the_page_shows_the_verdict_the_scores_and_the_answers(registry: Registry) -> None:
    """With every model's numbers side by side, intervals, rows, recipe and versions."""
    page = render_page(hand_made_report(), read_manifest(registry.folder("acme", 1)), CURVE)
    for part in (
        "Passed.",
        "held-out loss improves",
        "acme@1",
        "acme@2 says 5",
        "faq.jsonl:5",
        "f" * 64,
        CURVE,
        " to +",
    ):
        assert part in page


def test_nothing_on_the_page_runs_or_is_fetched(registry: Registry) -> None:
    """Rows and answers are text, whatever they hold, and a browser is told to load nothing at all."""
    page = render_page(hand_made_report(), read_manifest(registry.folder("acme", 1)), CURVE)
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r"<(script|img|link|iframe|object|embed)\b", page)
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page


def test_the_answers_shown_are_those_that_changed_most() -> None:
    """Against the version to improve on; the last rows' losses fell furthest."""
    report = hand_made_report(rows=6, shown=2)
    assert [answer.place for answer in report.answers] == ["faq.jsonl:5", "faq.jsonl:4"]
    assert set(report.answers[0].said) == {"base", "acme@1", "acme@2"}


def test_a_refused_version_has_a_page_with_the_servers_reason(registry: Registry) -> None:
    """Though nothing of it could be measured."""
    report = unjudged_report("acme@1", "f" * 64, "the server refused acme@1: rank 128", settings())
    page = render_page(report, read_manifest(registry.folder("acme", 1)), CURVE)
    assert "Refused." in page
    assert "rank 128" in page
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report

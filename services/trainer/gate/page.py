"""The report as one HTML page for people: no script, no font, nothing from elsewhere."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from services.registry.manifest import Manifest
from services.trainer.gate.report import Report, Scores, ShownAnswer
from services.trainer.gate.verdict import Rule

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2433; background: #fff; margin: 0 auto; max-width: 1080px; padding: 24px; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 18px; margin: 32px 0 8px; }
.verdict { border-radius: 8px; padding: 14px 18px; margin: 16px 0; }
.passed { background: #e5f4ea; border: 1px solid #8cc7a1; } .refused { background: #fdecea; border: 1px solid #e0a09a; }
table { border-collapse: collapse; width: 100%; } th, td { border-bottom: 1px solid #dde2ea; padding: 6px 10px; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.good { color: #1a7f46; } .bad { color: #b3261e; } .quiet { color: #5d6779; }
.answers td { width: 25%; overflow-wrap: anywhere; white-space: pre-wrap; }
svg { max-width: 100%; height: auto; } code { font-size: 13px; overflow-wrap: anywhere; }
@media print { body { max-width: none; } }
"""


def render_page(report: Report, manifest: Manifest, loss_curve: str) -> str:
    """The whole page.

    Args:
        report: of the version.
        manifest: of the same version.
        loss_curve: an SVG drawn by this project; everything else is escaped.
    """
    title = f"{report.model}: {'passed' if report.passed else 'refused'}"
    parts = [
        f"<h1>{escape(report.model)}</h1>",
        f'<p class="quiet">Judged {escape(report.judged)} on the serving engine; published {escape(manifest.created)}.</p>',
        _verdict(report),
    ]
    if report.verdict is not None:
        parts += [_section("Rules", _rules(report.verdict.rules)), _section("Scores", _scores(report.scores))]
        parts.append(_section(f"Answers that changed most ({len(report.answers)})", _answers(report)))
    parts += [
        _section("Training loss", loss_curve),
        _section("Rows", _data(manifest)),
        _section("Recipe and versions", _lineage(report, manifest)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>\n{body}</section>"


def _verdict(report: Report) -> str:
    if report.passed:
        against = report.verdict.against if report.verdict else ""
        return f'<div class="verdict passed"><b>Passed.</b> Better than {escape(against)} by every rule below.</div>'
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in report.reasons)
    return f'<div class="verdict refused"><b>Refused.</b> It stays a candidate, because:<ul>{reasons}</ul></div>'


def _rules(rules: Iterable[Rule]) -> str:
    rows = []
    for rule in rules:
        mark = '<span class="good">kept</span>' if rule.passed else '<span class="bad">broken</span>'
        rows.append([mark, escape(rule.name), escape(rule.found), escape(rule.wanted), _interval(rule)])
    return _table(["", "rule", "found", "wanted", "difference (interval)"], rows)


def _interval(rule: Rule) -> str:
    difference = rule.difference
    if difference is None:
        return ""
    return f"{difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})"


def _scores(scores: list[Scores]) -> str:
    lines: list[tuple[str, list[str]]] = [
        ("held-out loss, nats per answer token", [f"{score.loss:.4f}" for score in scores]),
        ("held-out answers right", [f"{score.right_share:.0%}" for score in scores]),
        ("held-out answers that end", [f"{score.stop_share:.0%}" for score in scores]),
        ("tokens of an answer: least, median, most", [", ".join(map(str, score.answer_tokens)) for score in scores]),
        ("seconds of an answer, median", [f"{score.answer_seconds:.2f}" for score in scores]),
        ("general texts, nats per token", [f"{score.text_loss:.3f}" for score in scores]),
        ("general prompts right", [f"{score.general_share:.0%}" for score in scores]),
    ]
    lines += [
        (f"  {area.replace('-', ', ')}", [f"{score.areas[area]:.0%}" for score in scores]) for area in scores[0].areas
    ]
    head = "".join(f'<th class="number">{escape(score.model)}</th>' for score in scores)
    body = "".join(f"<tr><td>{escape(name)}</td>{_numbers(values)}</tr>" for name, values in lines)
    return f"<table><tr><th></th>{head}</tr>{body}</table>"


def _numbers(values: list[str]) -> str:
    return "".join(f'<td class="number">{escape(value)}</td>' for value in values)


def _answers(report: Report) -> str:
    models = [score.model for score in report.scores]
    rows = [
        [
            f'{escape(shown.question)}<br><span class="quiet">{escape(shown.place)}; wanted: {escape(shown.reference)}</span>',
            *(_said(shown, model) for model in models),
        ]
        for shown in report.answers
    ]
    return _table(["question", *models], rows, kind="answers")


def _said(shown: ShownAnswer, model: str) -> str:
    mark = "good" if shown.right[model] else "quiet"
    return f'<span class="{mark}">{escape(shown.said[model])}</span><br><span class="quiet">loss {shown.loss[model]:.3f}</span>'


def _data(manifest: Manifest) -> str:
    files: list[dict[str, Any]] = manifest.dataset.get("files", [])
    names = ("file", "format", "rows", "train", "holdout", "exact_duplicates", "near_duplicates", "too_long", "sha256")
    rows = [
        [
            *(escape(str(file.get(name, ""))) for name in names[:-1]),
            f"<code>{escape(str(file.get('sha256', '')))}</code>",
        ]
        for file in files
    ]
    return _table([name.replace("_", " ") for name in names], rows)


def _lineage(report: Report, manifest: Manifest) -> str:
    base = manifest.base
    facts: dict[str, Any] = {
        "base model": f"{base.name}, {base.fingerprint}",
        "chat template": base.chat_template_sha256,
        "manifest": report.manifest_sha256,
        "version before": manifest.parent or "none",
        **{f"{table}.{key}": value for table, values in manifest.recipe.items() for key, value in _items(values)},
        **{f"gate: {table}.{key}": value for table, values in report.settings.items() for key, value in _items(values)},
        **{f"package {name}": version for name, version in manifest.packages.items()},
        **{f"metric {name}": value for name, value in manifest.metrics.items()},
    }
    return _table(["", ""], [[escape(name), f"<code>{escape(str(value))}</code>"] for name, value in facts.items()])


def _items(values: Any) -> Iterable[tuple[str, Any]]:
    return values.items() if isinstance(values, Mapping) else [("", values)]


def _table(names: list[str], rows: list[list[str]], *, kind: str = "") -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="{kind}"><tr>{head}</tr>{body}</table>'

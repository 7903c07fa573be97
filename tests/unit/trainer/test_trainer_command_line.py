"""The verbs of ``python -m services.trainer``: what they print, for people and for machines, and their exit codes."""

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from services.base_model.identity import BaseModelSettings
from services.base_model.install import install
from services.common.paths import DataPaths
from services.jobs.records import NewJob
from services.registry.layout import Registry
from services.registry.pointer import promote, read_pointer
from services.trainer.__main__ import main
from services.trainer.work.deletions import Deleter
from services.trainer.work.desk import Desk
from tests.support.adapters import publish_adapter
from tests.unit.trainer.house import CONFIG, TinyBase

GOOD = [{"prompt": f"question {index}", "completion": f"answer {index}"} for index in range(20)]
VERBS = ("check-data", "preview", "retrain")


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    """``main`` sets the process's log and signal handlers."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level
    for number, handler in signals.items():
        signal.signal(number, handler)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with a base model of the shipped settings' name and 20 rows; no holdout."""
    config, root = tmp_path / "config", tmp_path / "data"
    config.mkdir()
    (config / "base.toml").write_text('[base_model]\nname = "tiny-base"\npackage = "tiny"\n')
    shipped = (CONFIG / "training.toml").read_text()
    (config / "training.toml").write_text(shipped.replace("holdout_share = 0.05", "holdout_share = 0.0"))
    install(root / "models", BaseModelSettings(name="tiny-base", package="tiny"), TinyBase())
    (root / "datasets").mkdir()
    (root / "datasets" / "a.jsonl").write_text("\n".join(map(json.dumps, GOOD)))
    (config / "gate.toml").write_bytes((CONFIG / "gate.toml").read_bytes())
    monkeypatch.setenv("WHETSTONE_CONFIG", str(config))
    monkeypatch.setenv("WHETSTONE_DATA", str(root))
    monkeypatch.delenv("WHETSTONE_PROFILE", raising=False)
    return root


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_names_every_exit_code(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(words)
    said = capsys.readouterr().out
    for code in ("0 done", "1 failed", "2 wrong call", "3 the rows", "4 another retrain", "5 interrupted"):
        assert code in said


@pytest.mark.usefixtures("data")
def test_check_data_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data"]) == 0
    header, file, tokens = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["file", "format", "rows"]
    assert file.split() == ["a.jsonl", "prompt", "20", "0", "0", "0", "20", "0"]
    assert "tokens to train on" in tokens
    assert main(["check-data", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["train"], report["files"][0]["file"]) == (20, 20, "a.jsonl")


def test_refused_rows_exit_with_3_after_what_is_known_of_the_files(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "datasets" / "b.jsonl").write_text(json.dumps(GOOD[0]) + "\n" + "{}\n" * 70)
    (data / "datasets" / "c.jsonl").symlink_to("a.jsonl")
    assert main(["check-data"]) == 3
    captured = capsys.readouterr()
    assert [line.split() for line in captured.out.splitlines()[1:]] == [
        ["a.jsonl", "prompt", "20", "0"],
        ["b.jsonl", "prompt", "1", "70"],
    ]
    assert "trainer: the data was refused: 71 faults\n" in captured.err
    assert "b.jsonl: 20 more faults" in captured.err
    assert main(["check-data", "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["error"] == "the data was refused: 71 faults"
    assert len(report["faults"]) == 71
    assert report["files"][1] == {"file": "b.jsonl", "format": "prompt", "rows": 1, "faults": 70}


@pytest.mark.parametrize("words", [["preview"], ["retrain"], ["retrain", "--json"]], ids=" ".join)
def test_rows_are_refused_with_3_by_every_verb(
    words: list[str], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "datasets" / "a.jsonl").write_text("{}\n")
    assert main(words) == 3
    assert "a.jsonl:1: has the keys of no known format" in capsys.readouterr().err


@pytest.mark.usefixtures("data")
def test_preview_shows_rows_or_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", "--rows", "2"]) == 0
    said = capsys.readouterr().out
    assert "[[answer 0<|im_end|>]]" in said
    assert "[[answer 1<|im_end|>]]" in said
    assert "answer 2" not in said
    assert main(["preview", "--row", "a.jsonl:5", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["row"], row["pieces"][1]) == ("a.jsonl:5", ["answer 4<|im_end|>", True])
    assert main(["preview", "--row", "a.jsonl:50"]) == 3
    assert "a.jsonl:50: no such row" in capsys.readouterr().err


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("verb", VERBS)
def test_a_wrong_setting_exits_with_2_and_is_named(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--json", "--set", "recipe.epoch=2"]) == 2
    captured = capsys.readouterr()
    assert "unknown field `epoch`" in captured.err
    assert json.loads(captured.out)["error"] in captured.err


@pytest.mark.parametrize("words", [[], ["train"], ["retrain", "--rows", "3"], ["preview", "--rows", "many"]])
def test_a_wrong_call_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(words)
    assert "usage: python -m services.trainer" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_a_base_model_that_is_not_there_exits_with_1_and_says_the_remedy(
    verb: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "models" / "tiny-base").rename(data / "models" / "away")
    assert main([verb]) == 1
    assert "`make model` installs it" in capsys.readouterr().err


@pytest.mark.usefixtures("data")
def test_a_training_that_fails_exits_with_1_and_its_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrain", "--json", "--set", "recipe.backend=unsloth", "--set", "data.loss=all"]) == 1
    captured = capsys.readouterr()
    assert 'recipe.backend = "unsloth" needs ' in json.loads(captured.out)["error"]
    assert "Traceback" not in captured.err


def test_a_volume_that_cannot_be_written_exits_with_1_and_one_sentence(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "runs").write_text("not a folder")
    assert main(["retrain"]) == 1
    assert capsys.readouterr().err == (
        f"trainer: {data / 'runs'}: File exists; check the data volume, its owner and its free space\n"
    )


def test_a_second_retrain_exits_with_4_and_names_the_job_and_who_works_on_it(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(DataPaths(data))
    first, _ = desk.queue.submit(NewJob(source="operator", owner="operator", model="tiny-base", adapter="assistant"))
    with desk.work.holding():
        assert main(["retrain", "--json"]) == 4
    said = capsys.readouterr()
    assert f"the operator's job {first.id} is queued" in json.loads(said.out)["error"]
    assert "held by: the trainer's worker, process" in said.err
    assert f"`make cancel JOB={first.id}`" in said.err


def test_jobs_are_listed_and_cancelled(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(DataPaths(data))
    jobs = [
        desk.queue.submit(NewJob(source="api", owner="app", model="tiny-base", adapter=name))[0].id for name in "ab"
    ]
    assert main(["cancel", jobs[0]]) == 0
    assert main(["cancel", jobs[0]]) == 1
    assert "cannot be cancelled: it is cancelled" in capsys.readouterr().err
    assert main(["jobs", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(job["id"], job["status"], job["place"]) for job in listed] == [
        (jobs[1], "queued", 0),
        (jobs[0], "cancelled", None),
    ]
    assert main(["jobs"]) == 0
    assert jobs[1] in capsys.readouterr().out


def test_the_operator_gives_up_versions_of_any_owner(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One, or all with the one in service; written down once, and carried out like an app's wish."""
    registry, deletions = Registry(data / "registry"), Desk(DataPaths(data)).deletions
    for _ in range(3):
        publish_adapter(registry)
    promote(registry, "acme", 3)
    for _ in range(2):
        assert main(["delete", "--adapter", "acme", "--version", "1"]) == 0
        assert "acme@1 is gone for apps within seconds" in capsys.readouterr().err
    assert [deletion.version for deletion in deletions.all(pending=True)] == [1]
    for version, reason in (("3", "acme@3 is in service"), ("9", "acme@9 is not published; versions of acme: 1, 2, 3")):
        assert main(["delete", "--adapter", "acme", "--version", version]) == 1
        assert reason in capsys.readouterr().err
    assert main(["delete", "--version", "all"]) == 1
    assert "assistant has no version; adapters: acme" in capsys.readouterr().err
    assert main(["delete", "--adapter", "acme", "--version", "all"]) == 0
    Deleter(deletions, registry)()
    assert (registry.versions("acme"), read_pointer(registry, "acme")) == ([], None)


def test_no_verb_of_the_queue_imports_what_trains() -> None:
    """An idle worker costs next to nothing."""
    words = "import sys, services.trainer.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "datasets", "trl"} & set(done.stdout.split())

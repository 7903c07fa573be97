"""Preflight tells what is missing before anything is started; other programs of the host are a file that answers as they do."""

import ast
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from services.server.keys import KeyFile
from tools import base_image, preflight
from tools.preflight import disk_problem, firewall_rule


def _free(gib: float) -> tuple[int, int, int]:
    return 0, 0, int(gib * 2**30)


def test_what_lies_on_one_disk_is_added_up(tmp_path: Path) -> None:
    """Images and data share most machines' only disk: either alone would fit, both do not."""
    images, data = tmp_path / "docker", tmp_path / "data"
    images.mkdir()
    data.mkdir()
    needs = [(data, 10), (images, 30)]
    assert disk_problem(needs, usage=lambda _: _free(41)) is None
    problem = disk_problem(needs, usage=lambda _: _free(39))
    assert problem is not None
    assert "39 GiB are free" in problem
    assert f"10 for {data} and 30 for {images}" in problem
    assert disk_problem(needs[:1], usage=lambda _: _free(11)) is None


def test_a_disk_of_its_own_is_compared_alone(tmp_path: Path) -> None:
    """A small system disk beside a large data disk is found."""
    needs = [(tmp_path, 10), (Path("/proc"), 30)]
    problem = disk_problem(needs, usage=lambda folder: _free(5 if folder == Path("/proc") else 100))
    assert problem is not None
    assert "30 for /proc" in problem


@pytest.mark.parametrize(
    ("ports", "at"),
    [
        ([{"host_ip": "0.0.0.0", "published": "8000", "target": 8000}], "0.0.0.0"),  # noqa: S104 - the point
        ([{"published": "8000", "target": 8000}], "0.0.0.0"),  # noqa: S104
        ([{"host_ip": "127.0.0.1"}, {"host_ip": "192.168.7.1"}], "192.168.7.1"),
        ([{"host_ip": "::"}], "::"),
    ],
)
def test_a_port_that_others_reach_needs_a_key(machine: "Machine", ports: list[Any], at: str) -> None:
    """`make up` does not start what is published elsewhere than on loopback without one; the sentence says where, and both remedies."""
    machine.publishes(ports)
    assert machine.preflight() == 1
    [line] = [line for line in machine.said.splitlines() if "published port" in line]
    assert line.startswith(f"MISSING  published port: it is published at {at}, but no API key was made")
    assert "`make key NAME=...`, or publish it at 127.0.0.1" in line
    KeyFile(machine.data / "keys" / "keys.json").add("app", ["*"], None)
    machine.preflight()
    assert "ok       published port\n" in machine.said


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_on_loopback_needs_none(machine: "Machine", address: str) -> None:
    """Whoever reaches it is on this machine."""
    machine.publishes([{"host_ip": address, "published": "8000", "target": 8000}])
    machine.preflight()
    assert "ok       published port\n" in machine.said


def test_a_firewalls_rule_is_advised_where_it_is_not(machine: "Machine") -> None:
    """With the door's own addresses, as it is to be typed; it is no reason not to start, and with it nothing is said."""
    machine.publishes([])
    machine.answers("iptables", 1)
    machine.preflight()
    [line] = [line for line in machine.said.splitlines() if line.startswith("advised  firewall: ")]
    assert "iptables -t mangle -I PREROUTING -s 10.9.8.0/29 -m conntrack --ctstate NEW -j DROP" in line
    assert machine.asked("iptables") == [["-t", "mangle", "-C", *firewall_rule("10.9.8")]]
    machine.answers("iptables", 0)
    machine.preflight()
    assert "advised" not in machine.said


@pytest.mark.parametrize(
    ("said", "code", "remedy"),
    [
        ("disabled", 1, "served; systemctl enable docker"),
        ("masked", 1, "served; systemctl unmask docker && systemctl enable docker"),
        ("enabled", 0, None),
        ("", 1, None),
    ],
)
def test_an_engine_that_no_reboot_starts_is_told_of(
    machine: "Machine", said: str, code: int, remedy: str | None
) -> None:
    """With the remedy; where systemd starts it, or knows none of that name, nothing is said."""
    machine.publishes([])
    machine.answers("iptables", 0)
    machine.answers("systemctl", code, said)
    machine.preflight()
    told = [
        line for line in machine.said.splitlines() if line.startswith("advised  start at boot: Docker does not start")
    ]
    assert [line.endswith(str(remedy)) for line in told] == ([] if remedy is None else [True])
    assert machine.said.count("advised") == len(told)
    assert machine.asked("systemctl") == [["is-enabled", "docker.service"]]


class Machine:
    """A host with its own programs and folders.

    Attributes:
        data: the appliance's.
        said: what preflight last printed.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._programs, self._capsys, self._monkeypatch = folder / "programs", capsys, monkeypatch
        self.data, self.said = folder / "data", ""
        self._programs.mkdir()
        (self.data / "keys").mkdir(parents=True)
        monkeypatch.setenv("PATH", str(self._programs))
        monkeypatch.setenv("WHETSTONE_NETWORK", "10.9.8")
        monkeypatch.setenv("WHETSTONE_DATA_DIR", str(self.data))

    def publishes(self, ports: list[Any]) -> None:
        """What Compose makes of the project's files."""
        services = {"door": {"ports": ports}, "server": {}, "trainer": {"ports": None}}
        self.answers("docker", 0, json.dumps({"services": services, "version": "2.26.1"}))

    def answers(self, program: str, code: int, said: str = "") -> None:
        """It ends with ``code`` and says the same to whatever it is asked."""
        file, heard = self._programs / program, self._programs / f"{program}.heard"
        heard.write_text("")
        file.write_text(
            f"#!{sys.executable}\nimport json, sys\n"
            f"open({str(heard)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\nprint({said!r})\nsys.exit({code})\n"
        )
        file.chmod(0o755)

    def asked(self, program: str) -> list[list[str]]:
        """The words of each call."""
        return [json.loads(line) for line in (self._programs / f"{program}.heard").read_text().splitlines()]

    def preflight(self) -> int:
        """Its exit code."""
        self._monkeypatch.setattr("sys.argv", ["preflight", "--cpu"])
        code = preflight.main()
        self.said = self._capsys.readouterr().out
        return code


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Machine:
    """One without a program."""
    return Machine(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("module", [preflight, base_image], ids=["preflight", "base_image"])
def test_it_runs_on_the_python_of_an_older_host(module: ModuleType) -> None:
    """Python 3.8, as the README says: its grammar, and no newer notation of types outside annotations, which are not evaluated."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(), feature_version=(3, 8))
    assert any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    annotations = {id(node.annotation) for node in ast.walk(tree) if isinstance(node, ast.arg | ast.AnnAssign)}
    annotations |= {id(node.returns) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    types = {"str", "int", "float", "bool", "bytes", "list", "dict", "tuple", "set", "Callable", "None"}
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.BinOp | ast.Subscript):
            first = node.left if isinstance(node, ast.BinOp) else node.value
            assert not (isinstance(first, ast.Name) and first.id in types), f"line {node.lineno}"
        pending += [child for child in ast.iter_child_nodes(node) if id(child) not in annotations]

"""What the Compose files and the README promise each other."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from services.common.killpoints import VARIABLE
from tools.base_image import DIGEST_LABEL, NAME_LABEL
from tools.preflight import WRITABLE

REPOSITORY = Path(__file__).resolve().parents[3]
yaml: Any = importlib.import_module("yaml")  # it ships no types


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads Compose's ``!reset`` as nothing."""


_Loader.add_constructor("!reset", lambda _, __: None)


def _services(file: str) -> dict[str, Any]:
    project: dict[str, Any] = yaml.load((REPOSITORY / file).read_text(), _Loader)
    services: dict[str, Any] = project["services"]
    return services


def _gib(limit: str) -> int:
    """The default of ``${NAME:-24g}``, or a plain ``24g``."""
    found = re.fullmatch(r"(?:\$\{\w+:-)?(\d+)g\}?", limit)
    assert found is not None, limit
    return int(found[1])


@pytest.mark.parametrize(
    ("file", "row"), [("compose.yaml", "GPU server"), ("compose.cpu.yaml", "CPU profile")], ids=["gpu", "cpu"]
)
@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_limits_fit_the_host_that_the_readme_asks_for(file: str, row: str, readme: str) -> None:
    """Server and trainer together stay within the host's memory: one that grows is ended, not the machine."""
    [line] = [
        line
        for line in (REPOSITORY / readme).read_text().splitlines()
        if line.startswith((f"| {row}", f"| {row.replace('server', '서버').replace('profile', '프로필')}"))
    ]
    host = re.search(r"(\d+) GiB of memory|메모리 (\d+) GiB", line)
    assert host is not None
    services = _services(file)
    limits = [_gib(services[name]["deploy"]["resources"]["limits"]["memory"]) for name in ("server", "trainer")]
    assert sum(limits) <= int(host[1] or host[2])


@pytest.mark.parametrize("file", ["compose.yaml", "compose.cpu.yaml"])
def test_the_server_has_the_port_that_is_published(file: str) -> None:
    """From the door, whatever config/server.toml says: else the port would lead nowhere."""
    door = _services("compose.yaml")["door"]
    assert [port["target"] for port in door["ports"]] == [8000]
    words = dict(zip(door["command"][::2], door["command"][1::2], strict=True))
    assert (words["--host"], words["--port"]) == ("0.0.0.0", "8000")  # noqa: S104 - within its own network
    assert f"server.door={words['--socket']}" in _services(file)["server"]["command"]
    assert "command" not in _services("compose.cpu.yaml")["door"]


def test_the_door_holds_nothing() -> None:
    """It mounts the folder of its own socket and no settings; the server alone mounts that, too, and cannot put another socket there."""
    mounts = {name: service["volumes"] for name, service in _services("compose.yaml").items()}
    folder = "${WHETSTONE_DATA_DIR:-./data}/door:/data/door"
    assert mounts.pop("door") == [folder]
    assert f"{folder}:ro" in mounts.pop("server")
    assert not any("/door" in mount for service in mounts.values() for mount in service)
    assert _services("compose.yaml")["door"]["tmpfs"] == []


def test_the_trainer_works_on_the_queue_that_the_server_fills() -> None:
    """Both mount it, and both start with `make up`; nothing else of the server's or the trainer's is writable for both."""
    services = _services("compose.yaml")
    assert services["trainer"]["command"] == ["work"]
    assert services["trainer"]["restart"] == services["server"]["restart"] == "unless-stopped"
    assert "profiles" not in services["trainer"]
    assert services["trainer"]["network_mode"] == "none"
    writable = [
        {
            volume.split(":", 1)[1].rpartition("}")[2]
            for volume in services[name]["volumes"]
            if not volume.endswith(":ro")
        }
        for name in ("server", "trainer")
    ]
    assert {volume.rpartition(":")[2] for volume in writable[0] & writable[1]} == {"/data/jobs"}


@pytest.mark.parametrize("name", ["door", "server", "trainer"])
def test_what_ends_or_a_reboot_ended_comes_back_by_itself(name: str) -> None:
    """Whatever its exit code; only who stopped it by hand starts it again by hand."""
    assert _services("compose.yaml")[name]["restart"] == "unless-stopped"
    assert "restart" not in _services("compose.cpu.yaml")[name]


@pytest.mark.parametrize(
    "file", ["compose.yaml", "compose.cpu.yaml", "images/server.Dockerfile", "images/trainer.Dockerfile"]
)
def test_no_container_is_told_where_to_die(file: str) -> None:
    """What tests use to kill processes is set by nothing that an operator starts."""
    assert VARIABLE not in (REPOSITORY / file).read_text()


@pytest.mark.parametrize("file", ["images/server.Dockerfile", "images/trainer.Dockerfile"])
def test_an_image_holds_what_is_locked_alone(file: str) -> None:
    """What is installed has one of the lock's hashes, and brings along nothing that is not in the lock."""
    lines = (REPOSITORY / file).read_text().replace("\\\n", " ")
    commands = re.split(r"\n|&&|;", lines)
    installs = [command.split() for command in commands if " pip install" in command]
    assert installs
    assert all({"--no-deps", "--require-hashes", "-r"} <= set(words) for words in installs)


def test_stored_responses_are_the_servers_alone() -> None:
    """Prompts of all apps: neither the trainer nor a tool mounts the folder, or one above it."""
    mounting = [
        name
        for name, service in _services("compose.yaml").items()
        if any(volume.rpartition("}")[2].startswith(("/responses:", ":")) for volume in service["volumes"])
    ]
    assert mounting == ["server"]


def test_the_healthcheck_asks_without_a_network() -> None:
    """By the private socket, whose folder the server mounts; it is red while no door lends the port."""
    server = _services("compose.yaml")["server"]
    assert server["healthcheck"]["test"] == ["CMD", "python", "-m", "services.server", "status", "--json"]
    assert any(volume.endswith("/run:/data/run") for volume in server["volumes"])


def test_only_the_model_step_gets_what_it_needs_to_reach_the_hub() -> None:
    """Mirror and proxies are the operator's own: passed on where set, written nowhere, and for no other container."""
    wanted = {"HF_ENDPOINT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}
    for name, service in _services("compose.yaml").items():
        passed = {key for key, value in service["environment"].items() if value is None}
        assert passed == (wanted if name == "model" else set()), name


@pytest.mark.parametrize("file", ["compose.yaml", "compose.cpu.yaml"])
def test_secrets_are_files(file: str) -> None:
    """No environment holds one, where ``docker inspect`` shows it: at most the path of its file, which one container mounts."""
    for name, service in _services(file).items():
        secret = {key for key in service.get("environment", {}) if re.search("TOKEN|KEY|SECRET|PASSWORD", key)}
        assert secret <= {"HF_TOKEN_PATH"}, name
        mounted = any(":/data/secrets" in volume for volume in service.get("volumes", []))
        assert (secret != set(), mounted) in {(False, False), (True, True)}, name


@pytest.mark.parametrize("file", ["compose.yaml", "compose.cpu.yaml"])
def test_nothing_is_published_but_one_port_on_loopback(file: str) -> None:
    """Without a key everyone who reaches the port may ask: this address alone keeps others out, and the server is told the same one."""
    published = [port for service in _services(file).values() for port in service.get("ports", [])]
    port = {"host_ip": "127.0.0.1", "published": "${WHETSTONE_PORT:-8000}", "target": 8000}
    assert published == ([port] if file == "compose.yaml" else [])
    # By an alias: who changes the one changes the other.
    text = (REPOSITORY / file).read_text()
    places = ["host_ip: *published-at", "WHETSTONE_PUBLISHED_AT: *published-at"]
    assert [place in text for place in places] == [file == "compose.yaml"] * 2
    told = {name for name, service in _services(file).items() if "WHETSTONE_PUBLISHED_AT" in service["environment"]}
    assert told == ({"server"} if file == "compose.yaml" else set())
    assert not any(service.get("network_mode") == "host" for service in _services(file).values())


def test_folders_that_containers_mount_are_made_and_looked_at() -> None:
    """Docker would make a missing one as root, and the containers' user could not write to it."""
    mounts = [
        re.fullmatch(r"\$\{WHETSTONE_DATA_DIR:-\./data\}/([\w/]+):[\w/]+(:ro)?", mount)
        for name in ("door", "server", "trainer")
        for mount in _services("compose.yaml")[name]["volumes"]
    ]
    folders = {mount[1] for mount in mounts if mount is not None}
    written = {mount[1] for mount in mounts if mount is not None and mount[2] is None}
    made = re.search(r"mkdir -p .*/,([\w /]+)\)", (REPOSITORY / "Makefile").read_text())
    assert made is not None
    assert folders <= set(made[1].split())
    assert {"jobs", "door"} <= written <= set(WRITABLE)


def test_datasets_can_be_written_by_a_purge_alone() -> None:
    """They are the operator's: whatever else reads them cannot change them."""
    writing = [
        name
        for name, service in _services("compose.yaml").items()
        if any(volume.endswith(":/data/datasets") for volume in service["volumes"])
    ]
    assert writing == ["purge"]
    assert _services("compose.yaml")["purge"]["network_mode"] == "none"


@pytest.mark.parametrize("file", ["compose.yaml", "compose.cpu.yaml"])
def test_every_container_is_contained(file: str) -> None:
    """The tools too, and nothing that is laid over it takes that back."""
    kept = {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "user": "${WHETSTONE_UID:-10001}:${WHETSTONE_GID:-10001}",
    }
    more = {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode", "volumes_from", "extra_hosts"}
    for name, service in _services(file).items():
        assert not more & service.keys(), name
        assert {key: service.get(key, kept[key] if file != "compose.yaml" else None) for key in kept} == kept, name
        assert not any(".sock" in volume for volume in service.get("volumes", ())), name


def test_one_container_alone_has_a_way_out() -> None:
    """And only while it fetches: the door's network and its resolver lead nowhere, the others have none."""
    ways = {
        name: service.get("network_mode", service.get("networks"))
        for name, service in _services("compose.yaml").items()
    }
    assert ways.pop("model") is None
    assert ways.pop("door") == ["doorway"]
    assert set(ways.values()) == {"none"}
    assert _services("compose.yaml")["door"]["dns"] == ["127.0.0.1"]
    networks = yaml.load((REPOSITORY / "compose.yaml").read_text(), _Loader)["networks"]
    [doorway] = networks.values()
    assert doorway["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    [addresses] = doorway["ipam"]["config"]
    assert addresses["aux_addresses"]["DefaultGatewayIPv4"] != addresses["gateway"]  # which is the host's


def test_every_image_is_built_on_the_base_that_the_operator_pins() -> None:
    """By WHETSTONE_PYTHON_IMAGE; without it on the tag that the Dockerfiles name."""
    built = [service["build"] for service in _services("compose.yaml").values()]
    assert len(built) > 1
    for build in built:
        dockerfile = (REPOSITORY / build["dockerfile"]).read_text()
        [base] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", dockerfile, re.MULTILINE)
        assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
        assert build["args"]["PYTHON_IMAGE"] == f"${{WHETSTONE_PYTHON_IMAGE:-{base}}}"
        assert build["args"]["BASE_DIGEST"] == "${WHETSTONE_BASE_DIGEST:-unknown}"
        label = f"LABEL {NAME_LABEL}=${{PYTHON_IMAGE}} {DIGEST_LABEL}=${{BASE_DIGEST}}"
        assert label in dockerfile.rpartition("FROM ")[2]  # of the image, not of the stage before

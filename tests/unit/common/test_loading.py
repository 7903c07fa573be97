"""No model, tokenizer or file that is loaded runs code of its own: every call in the source says so."""

import ast
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY

SOURCES = sorted(file for folder in ("services", "tools") for file in (REPOSITORY / folder).rglob("*.py"))
LOADS = {"from_pretrained", "from_config"}
ENGINES = {"AsyncEngineArgs", "EngineArgs", "LLM"}
# PEFT has neither argument: it takes adapter_model.safetensors first, and never code; the trainer or the registry wrote the folder.
NEITHER = {"PeftModel"}
NO_WEIGHTS = {"AutoTokenizer", "AutoConfig"}
# What turns bytes into objects by running what they say, and modules that do nothing else.
PICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
RUNNING = {"eval", "exec", "__import__"}


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str, str]]:
    """Every call, with the name of what is called and of what it is an attribute of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            owner, called = "", node.func
            if isinstance(called, ast.Attribute):
                owner = ast.unparse(called.value).rpartition(".")[2]
                yield node, owner, called.attr
            elif isinstance(called, ast.Name):
                yield node, owner, called.id


def says(call: ast.Call, name: str, value: object) -> bool:
    """An argument of this name with this value, written out: what a variable holds cannot be seen here."""
    return any(argument.arg == name and ast.unparse(argument.value) == repr(value) for argument in call.keywords)


def unsafe_loads(source: str) -> list[str]:
    """Loads that may run code of the model's, or read weights of another kind than safetensors."""
    found = []
    for call, owner, name in calls(ast.parse(source)):
        if name in ENGINES:
            wants = [("trust_remote_code", False), ("load_format", "safetensors")]
        elif name in LOADS and owner not in NEITHER:
            wants = [("trust_remote_code", False)]
            if name == "from_pretrained" and owner not in NO_WEIGHTS:
                wants.append(("use_safetensors", True))
        else:
            continue
        found += [f"{owner or name}: {wanted}" for wanted, value in wants if not says(call, wanted, value)]
    return found


def unsafe_reads(source: str) -> list[str]:
    """Reads that run what they read."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [module for module in modules if module.partition(".")[0] in PICKLING]
    for call, owner, name in calls(tree):
        if (not owner and name in RUNNING) or (
            owner == "yaml" and name.startswith(("load", "full_load", "unsafe_load"))
        ):
            found.append(name)
        elif (owner, name) == ("torch", "load") and not says(call, "weights_only", True):
            found.append("torch.load")
        elif name in {"load", "read_array"} and says(call, "allow_pickle", True):
            found.append("allow_pickle")
    return found


def test_nothing_that_is_loaded_runs_code() -> None:
    """``trust_remote_code=False`` and safetensors wherever a model is loaded, and no pickle, YAML object or ``eval`` anywhere."""
    found = [
        f"{file.relative_to(REPOSITORY)}: {fault}"
        for file in SOURCES
        for fault in unsafe_loads(file.read_text()) + unsafe_reads(file.read_text())
    ]
    assert found == []


def test_loads_are_seen() -> None:
    """The scan finds the loads that there are: renamed folders or classes would make it pass on nothing."""
    seen = [name for file in SOURCES for _, _, name in calls(ast.parse(file.read_text())) if name in LOADS | ENGINES]
    assert "AsyncEngineArgs" in seen
    assert seen.count("from_pretrained") >= 7


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("AutoModelForCausalLM.from_pretrained(a)", ["trust_remote_code", "use_safetensors"]),
        ("transformers.AutoTokenizer.from_pretrained(a, trust_remote_code=True)", ["trust_remote_code"]),
        ("AutoModel.from_config(c, trust_remote_code=flag)", ["trust_remote_code"]),
        ("FastLanguageModel.from_pretrained(a, trust_remote_code=False)", ["use_safetensors"]),
        ("vllm.AsyncEngineArgs(model=a, trust_remote_code=False)", ["load_format"]),
        ("LLM(a, **settings)", ["trust_remote_code", "load_format"]),
        ("AutoConfig.from_pretrained(a, trust_remote_code=False)", []),
    ],
)
def test_a_load_that_does_not_say_so_is_found(source: str, missing: list[str]) -> None:
    """Whatever it is called on, and where it says so by a variable, too."""
    assert [found.partition(": ")[2] for found in unsafe_loads(source)] == missing


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "yaml.load(text)",
        "yaml.unsafe_load_all(text)",
        "eval(text)",
        "exec(text)",
        "numpy.load(file, allow_pickle=True)",
    ],
)
def test_a_read_that_runs_what_it_reads_is_found(source: str) -> None:
    """With or without a mark that hushes the linter."""
    assert len(unsafe_reads(source)) == 1


@pytest.mark.parametrize("source", ["model.eval()", "torch.load(file, weights_only=True)", "yaml.safe_load(text)"])
def test_what_only_sounds_like_it_is_none(source: str) -> None:
    """A model's own ``eval``, and the safe forms."""
    assert unsafe_reads(source) == []

"""Preflight tells what is missing before anything is started."""

import ast
from pathlib import Path

from tools import preflight
from tools.preflight import disk_problem


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


def test_it_runs_on_the_python_of_an_older_host() -> None:
    """Python 3.8, as the README says: its grammar, and no newer notation of types outside annotations, which are not evaluated."""
    tree = ast.parse(Path(preflight.__file__).read_text(), feature_version=(3, 8))
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

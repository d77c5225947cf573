"""docs/extending.md names all places to change, and no others. And imports run one way."""

from __future__ import annotations

import ast
import graphlib
import re
import types
from pathlib import Path

import numpy as np
import pytest

from gpunet import SGD, ArgumentError
from gpunet.engines import choice
from gpunet.engines.reference import ReferenceEngine
from gpunet.layers import LECTURE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", PAGE, re.MULTILINE)


def files_with(word: str) -> set[str]:
    """The sources that contain a word."""
    files = [path for folder in ("gpunet", "kernels") for path in (ROOT / folder).rglob("*") if path.is_file()]
    sources = [path for path in files if path.suffix in (".py", ".cu", ".cuh", ".js")]
    found = [path for path in sources if re.search(rf"\b_?{word}(?![a-z])", path.read_text(encoding="utf-8"))]
    return {path.relative_to(ROOT).as_posix() for path in found}


def rows_with(word: str) -> set[str]:
    return {file for file, look_for in ROWS if look_for == word}


@pytest.mark.parametrize(("file", "word"), ROWS)
def test_the_text_to_look_for_is_in_the_file(file: str, word: str) -> None:
    assert word in (ROOT / file).read_text(encoding="utf-8")


def test_the_way_from_fit_to_the_formula_is_eight_files() -> None:
    section = PAGE.split("## Read")[1].split("## Add")[0]
    assert len(re.findall(r"^\| `", section, re.MULTILINE)) == 8


@pytest.mark.parametrize("word", ["softsign", "adamw"])
def test_all_files_that_an_addition_touches_are_named(word: str) -> None:
    assert files_with(word) == rows_with(word)


def test_an_activation_takes_nine_places() -> None:
    files = [file for file in rows_with("softsign") if "/page/" not in file]
    lines = [line for file in files for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    definitions = [line for line in lines if "softsign" in line]
    assert (len(files), len(definitions)) == (4, 9)


def test_an_engine_is_one_row() -> None:
    source = Path(choice.__file__).read_text(encoding="utf-8")
    row = '    "mirror": Row("cpu", "gpunet.engines.reference", "ReferenceEngine", "reference", lambda: "a mirror"),\n'
    added = types.ModuleType("choice_with_a_mirror")
    exec(compile(source.replace("TABLE = {\n", "TABLE = {\n" + row), choice.__file__, "exec"), vars(added))
    chosen = added.choose(LECTURE, 1, engine="mirror")
    assert chosen == added.Choice("mirror", "cpu, engine mirror (a mirror)")
    assert isinstance(
        chosen.make(LECTURE, SGD(), [np.zeros(shape) for shape in LECTURE.weight_shapes]), ReferenceEngine
    )
    assert added.DEVICE_OF["mirror"] == "cpu"
    assert added.instead_of(chosen, LECTURE, "auto", "auto").engine == "reference"
    with pytest.raises(ArgumentError, match="one of auto, mirror, reference"):
        added.check_device("auto", "none")


@pytest.mark.parametrize("name", sorted(choice.TABLE))
def test_no_code_of_the_package_asks_for_an_engine_by_name(name: str) -> None:
    """Outside the table, and the engine's own class."""
    row = choice.TABLE[name]
    table = ast.parse(Path(choice.__file__).read_text(encoding="utf-8"))
    tables = [node for node in table.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper()]
    in_tables = {id(part) for node in tables for part in ast.walk(node)}
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "gpunet").rglob("*.py")}
    trees[Path(choice.__file__)] = table
    asked = {
        path.relative_to(ROOT).as_posix()
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value == name and id(node) not in in_tables
    }
    assert asked == {f"{row.module.replace('.', '/')}.py"}


COMMANDS = {
    *("__main__", "commandline", "doctor", "evaluate", "final_model", "gpunet", "interruption", "kernel_report"),
    *(
        "known_data",
        "output_files",
        "page",
        "predict",
        "predict_table",
        "predictions",
        "resume",
        "sweep",
        "train",
        "training_options",
    ),
}
FOUNDATIONS = {
    *(
        "_version",
        "library_caches",
        "checks",
        "class_names",
        "code_cache",
        "errors",
        "files",
        "first_weights",
        "keras_names",
    ),
    *("layers", "losses", "optimizers", "regularizers", "scale", "starting", "terminal", "threads"),
}


def layer_of(module: str) -> int:
    """0: modules that import only one another; 1: the engines; 2: models, their data and files; 3: commands."""
    part = module.removeprefix("gpunet.").partition(".")[0]
    if part in COMMANDS:
        return 3
    return {"engines": 1}.get(part, 0 if part in FOUNDATIONS else 2)


def imports(node: ast.AST, modules: set[str]) -> set[str]:
    """gpunet's modules that this one imports, inside functions too, but not those that only mypy reads."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return set()
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gpunet":
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        return {name if name in modules else str(node.module) for name in names}
    return {found for child in ast.iter_child_nodes(node) for found in imports(child, modules)}


def test_imports_run_down_and_in_no_circle() -> None:
    """Commands, models, engines, foundations: whatever imports something imports it from its own layer or below."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "gpunet").rglob("*.py")}
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    graph = {}
    for module, path in paths.items():
        graph[module] = imports(ast.parse(path.read_text(encoding="utf-8")), set(paths)) - {module}
        for imported in graph[module]:
            assert layer_of(imported) <= layer_of(module), f"{module} imports {imported}"
    tuple(graphlib.TopologicalSorter(graph).static_order())

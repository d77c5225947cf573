"""What a clone and an installed package promise: the README's commands and examples, and a complete wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import gpunet
from conftest import command_environment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_quick_start_is_two_lines() -> None:
    assert code_blocks("")[0].splitlines() == [
        "pip install . && python -m gpunet.train          # trains 784-500-500-10 on the bundled MNIST",
        'pip install ".[test]" && python -m pytest        # everything that can pass without a GPU passes',
    ]


@pytest.mark.parametrize("code", code_blocks("python"), ids=lambda code: code.splitlines()[0])
def test_readme_examples_run(code: str) -> None:
    names: dict[str, object] = {}
    exec(code.replace("epochs=20", "epochs=1"), names)
    assert names["accuracy"] > 0.9


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """A page's headings as GitHub links them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_architecture_names_only_files_that_exist() -> None:
    """And every module except callbacks, formats and the like, so that readers find a file by its subject."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    known = {path.name for folder in ("gpunet", "kernels", "bench") for path in (ROOT / folder).rglob("*.*")}
    for name in re.findall(r"\b[a-z_]+\.(?:py|cu|cuh)\b", page.replace("*_plan.py", "tiled_plan.py")):
        assert name in known, name
    for path in [*(ROOT / "gpunet").glob("*.py"), *(ROOT / "gpunet" / "engines").rglob("*.py")]:
        assert path.name.startswith("_") or path.name in page, path.name


def package_sources() -> set[str]:
    """Every file of the package, by its name inside a wheel."""
    package = {path.relative_to(ROOT) for path in (ROOT / "gpunet").rglob("*") if path.is_file()}
    kernels = {Path("gpunet") / path.relative_to(ROOT) for path in (ROOT / "kernels").iterdir()}
    return {path.as_posix() for path in package | kernels if "__pycache__" not in path.parts}


def test_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    """Builds the wheel as `pip install .` does, without asking an index for anything."""
    pytest.importorskip("hatchling", reason="building a wheel offline needs hatchling; pip install hatchling")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert package_sources() <= names
    assert f"gpunet-{gpunet.__version__}.dist-info/entry_points.txt" in names


def test_installed_version_is_this_one() -> None:
    try:
        installed = metadata.version("gpunet")
    except metadata.PackageNotFoundError:
        pytest.skip("gpunet is not installed here, but used from a checkout on PYTHONPATH")
    assert installed == gpunet.__version__


def test_the_bounds_in_the_docs_are_the_ones_that_the_script_prints() -> None:
    printed = subprocess.check_output(
        [sys.executable, ROOT / "bench" / "bounds.py"], text=True, env=command_environment()
    )
    tables = [table.strip() for table in printed.split("\n\n")]
    assert len(tables) == 3
    document = (ROOT / "docs" / "kernels.md").read_text()
    for table in tables:
        assert table in document

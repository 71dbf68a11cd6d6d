"""The package is what the tree holds, and what README and CI say is the same."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

LAYERS = ("compiler", "ir", "models", "partitioner", "runtime_sim")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_package_list_equals_the_tree(repository: Path, project: dict[str, Any]) -> None:
    folders = {
        source.parent.relative_to(repository).as_posix()
        for layer in LAYERS
        for source in (repository / layer).rglob("*.py")
    }
    assert project["tool"]["setuptools"]["packages"] == sorted(
        f"chiplan.{folder.replace('/', '.')}" for folder in folders
    )
    assert project["tool"]["setuptools"]["package-dir"] == {
        f"chiplan.{folder.replace('/', '.')}": folder for folder in sorted(folders)
    }


def test_every_layer_has_a_stub_for_type_checkers(repository: Path) -> None:
    stubs = {stub.stem: stub.read_text() for stub in (repository / "typings/chiplan").glob("*.pyi")}
    assert stubs == {layer: f"from {layer} import *\n" for layer in LAYERS}


@pytest.mark.parametrize("layer", ["compiler", "models"])
def test_every_file_that_ships_is_package_data(repository: Path, project: dict[str, Any], layer: str) -> None:
    patterns = project["tool"]["setuptools"]["package-data"][f"chiplan.{layer}"]
    declared = {path for pattern in patterns for path in (repository / layer).glob(pattern)}
    present = {
        path
        for path in (repository / layer).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert present == declared


def test_importing_the_package_takes_no_name_of_ours(tmp_path: Path) -> None:
    """A user's own `models/` folder stays importable next to chiplan."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/__init__.py").write_text("mine = True\n")
    script = "import models, chiplan.models; assert models.mine and chiplan.models.model_names()"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=60)


def test_the_version_is_one(project: dict[str, Any], repository: Path) -> None:
    stated = project["project"]["version"]
    assert version("chiplan") == stated
    assert f"## [{stated}]" in (repository / "CHANGELOG.md").read_text(encoding="utf-8")


def test_readme_and_ci_run_the_same_test_command(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    (command,) = [line for line in readme.splitlines() if "[test]" in line]
    assert f"{command} \\\n" in (repository / ".ci/run").read_text(encoding="utf-8")


def test_ruff_bans_every_bare_folder_name(project: dict[str, Any]) -> None:
    banned = project["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert set(LAYERS) <= set(banned)


def test_the_code_map_lists_every_file(repository: Path) -> None:
    """docs/architecture.md says in one line what each module is."""
    text = (repository / "docs/architecture.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+/\w+\.py)` \|", text, flags=re.MULTILINE))
    modules = {
        source.relative_to(repository).as_posix()
        for layer in LAYERS
        for source in (repository / layer).glob("*.py")
        if source.stem != "__init__"
    }
    assert listed == modules

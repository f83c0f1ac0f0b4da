"""What docs/python.md and the notebooks show runs as it stands there, and names what exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import grow_cli as grow

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


def programs() -> dict[str, list[str]]:
    """Page → the pieces of code that it shows, which build on each other."""
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    shown = {"python.md": re.findall(r"(?ms)^```python\n(.*?)^```", page)}
    for path in NOTEBOOKS:
        shown[path.name] = ["".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code"]
    return shown


def test_there_are_two_notebooks_and_a_page() -> None:
    assert [path.name for path in NOTEBOOKS] == ["01_grow_a_net.ipynb", "02_your_own_module.ipynb"]
    assert all(len(pieces) >= 5 for pieces in programs().values())


@pytest.mark.parametrize("name", programs())
def test_code_that_is_shown_names_what_exists(name: str) -> None:
    for piece in programs()[name]:
        compile(piece, name, "exec")
        for word in re.findall(r"\bgrow\.(\w+)", piece):
            assert word in grow.__all__, f"{name} uses grow.{word}"
    if name == "python.md":
        shown = set(re.findall(r"`grow\.(\w+)", (DOCS / name).read_text(encoding="utf-8")))
        assert shown <= set(grow.__all__)
        assert set(grow.__all__) - {"Run", "Interrupted", "GrowClassifier", "GrowRegressor"} <= shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_shows_results_and_no_path_of_a_machine(path: Path) -> None:
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in code), "run it before it is stored"
    assert not re.search(
        r"(?<![\w.])/(home|root|tmp|work|Users|mnt|usr)/", json.dumps([cell["outputs"] for cell in code])
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", programs())
def test_code_that_is_shown_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "__shown__"}
    for piece in programs()[name]:
        exec(compile(piece, name, "exec"), space)
    assert list(tmp_path.glob("outputs/**/summary.json"))

"""What docs/methods and the glossary name exists: modules, functions, keys with their values, options, files and links.

The pages hold the papers against the code item by item; a table that names what is no longer there would mislead.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from omegaconf import OmegaConf

from grow_cli import registry
from grow_cli.config import Config

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("alether", "tiny", "senn", "fold")
VERDICTS = ("**faithful**", "**different**", "**left out**")

# every page but those of results that scripts write, relative to docs
LINKED = ["../README.md", "../CONTRIBUTING.md", "results/README.md"]
LINKED += [
    p.relative_to(ROOT / "docs").as_posix() for kind in ("*.md", "methods/*.md") for p in (ROOT / "docs").glob(kind)
]

# page → kind of item → numbers that the paper gives it: each has a row
ITEMS: dict[str, dict[str, list[str]]] = {
    "alether": {
        "Definition": [str(n) for n in range(1, 21)],
        "Remark": [str(n) for n in range(1, 21)],
        "Proposition": ["1", "2"],
        "Algorithm": [str(n) for n in range(1, 6)],
        "Equation": [str(n) for n in range(1, 9)],
        "Table": ["1"],
        "7.1": [".1", ".2", ".3", ".4", ".5"],
        "7.2": [".1", ".2", ".3", ".4", ".5"],
    },
    "tiny": {
        "Definition": ["3.1"],
        "Proposition": ["3.1", "3.2", "3.3"],
        "Algorithm": ["2", "3", "4", "5", "6"],
        "Equation": [str(n) for n in range(1, 13)],
        "A": [".1", ".2", ".3", ".4", ".5", ".6"],
        "B": [".1", ".2"],
        "C": [".1", ".2", ".3", ".4", ".5"],
        "D": [".1", ".2", ".3", ".4", ".5", ".6"],
        "E": [".1", ".2", ".3"],
    },
    "senn": {
        "Definition": ["1"],
        "Ingredient": ["1", "2", "3", "4"],
        "Theorem": ["1", "2"],
        "Lemma": ["1", "2", "3", "4", "5"],
        "Corollary": ["3.1"],
        "Equation": [str(n) for n in range(1, 9)],
        "4": [".1", ".2", ".3"],
    },
    "fold": {
        "Theorem": ["1", "2", "3", "4", "5"],
        "Definition": ["1", "2", "3", "4", "5"],
        "Hypothesis": ["1", "2"],
        "Algorithm": ["1"],
        "3": [".1", ".2", ".4"],
        "Table": ["1"],
        "Figure": ["1", "2", "3"],
    },
}


def page_text(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def items_text(method: str) -> str:
    """The part of a method's page that goes through the paper; what stands before it is for users."""
    _, heading, items = page_text(f"methods/{method}.md").partition("## Item by item")
    assert heading
    return items


def rows(text: str) -> list[list[str]]:
    """The cells of every table's rows, headings left out."""
    found = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in found if cells[0].strip() not in ("item", "word", "---")]


def named(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def problems(text: str, method: str = "") -> list[str]:
    """The names in backquotes that are nothing here; `method.x` must be a key of this method, where one is given."""
    return [name for name in named(text) if not is_there(name, method)]


def is_there(name: str, method: str) -> bool:
    first = re.split(r"[.=/]", name)[0]
    if "/" in name and " " not in name and "=" not in name:
        return (ROOT / name).exists()
    if re.fullmatch(r"[\w-]+\.(csv|jsonl|pt|json)", name):
        return True  # of a run folder
    if re.fullmatch(r"[a-z]+=\w+", name) and (ROOT / "conf" / first).is_dir():
        return (ROOT / "conf" / first / f"{name.partition('=')[2]}.yaml").exists()
    if key := re.fullmatch(r"([a-z_]+)\.(\w+)(?:=(\S+))?", name):
        holders = sections(key[1], method)
        if holders:
            return any(takes(holder, key[2], key[3]) for holder in holders)
    if re.fullmatch(r"[a-z_]+=\S+", name):
        return takes(Config, first, name.partition("=")[2])
    if re.fullmatch(r"[a-z_]+(\.\w+)+", name):
        return resolves(name)
    return True


def sections(prefix: str, method: str) -> list[type]:
    """The dataclasses that hold the keys `prefix.x`."""
    group = registry.groups().get(prefix)
    if prefix == "method" and method:
        return [registry.groups()["method"][method]]
    hint = get_type_hints(Config).get(prefix)
    return list(group.values()) if group else [hint] if dataclasses.is_dataclass(hint) else []  # type: ignore[list-item]


def takes(holder: type, field: str, value: str | None) -> bool:
    """Whether a dataclass has this key, and the key takes this value."""
    if field not in {f.name for f in dataclasses.fields(holder)}:
        return False
    if value is None or holder is Config:
        return True
    try:
        OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(holder), {field: yaml.safe_load(value)}))
    except Exception:
        return False
    return True


def resolves(name: str) -> bool:
    """A module of the package, or what one defines: a function, a class, or an attribute or field of a class."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(["grow_cli", *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if part in getattr(found, "__dataclass_fields__", {}):
                found = found.__dataclass_fields__[part]
            elif hasattr(found, part):
                found = getattr(found, part)
            else:
                return False
        return True
    return False


@pytest.mark.parametrize("method", METHODS)
def test_everything_that_a_methods_page_names_exists(method: str) -> None:
    text = page_text(f"methods/{method}.md")
    assert not problems(text, method)
    assert len(named(text)) > 40, "the page is parsed"


def test_everything_that_the_glossary_names_exists() -> None:
    assert not problems(page_text("glossary.md"))
    words = "trigger site frontier snapshot way front settled event probe control twin".split()
    assert sorted(words) == sorted(cells[0].strip("*") for cells in rows(page_text("glossary.md")))


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_to_files(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page_text(page)):
        assert (ROOT / "docs" / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("method", METHODS)
def test_every_item_has_a_place_and_a_verdict(method: str) -> None:
    for cells in rows(items_text(method)):
        assert len(cells) == 3, cells
        assert cells[2].startswith(VERDICTS), cells
        if cells[1] == "none":
            assert cells[2].startswith("**left out**"), cells
        else:
            assert named(cells[1]) or "](" in cells[1], cells


@pytest.mark.parametrize("method", METHODS)
def test_every_item_of_the_paper_has_a_row(method: str) -> None:
    items = "\n".join(cells[0] for cells in rows(items_text(method)))
    for kind, numbers in ITEMS[method].items():
        said = {
            n
            for group in re.findall(rf"{re.escape(kind)}s? ?((?:[\d.]+(?:, | and )?)+)", items)
            for n in re.split(", | and ", group)
        }
        said |= set(re.findall(rf"\b{re.escape(kind)}(\.\d)", items))
        missing = [n for n in numbers if n not in said and n.lstrip(".") not in said]
        assert not missing, f"{kind} {missing}"


@pytest.mark.parametrize(
    "wrong",
    [
        "theory.trajectory.no_such_function",
        "theory.no_such_module.gram",
        "theory.history.History.no_such_method",
        "grow_cli/theory/no_such_file.py",
        "method.no_such_key",
        "method.escape_along=sideways",
        "method.rank=0",
        "method.cluster",  # another method's
        "trigger.no_such_key",
        "trigger.scale=metric",
        "growth.no_such_key",
        "growth.until=2",
        "trajectory.window=2",
        "trajectory.no_such_key=1",
        "trigger=no_such_option",
        "experiment=no_such_experiment",
        "no_such_key=1",
    ],
)
def test_a_name_that_is_nothing_here_is_found(wrong: str) -> None:
    right = "`theory.trajectory.gram` `method.escape_along=modes` `trigger.scale=diffusion` `growth.until=1` `batch_size=500`"
    assert not problems(right, "alether")
    assert problems(f"{right} `{wrong}`", "alether") == [wrong]

"""Dockerfile and workflow name only what there is: paths, targets, keys, versions. Neither is run here."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = [
    c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if re.fullmatch(r".* :: Python :: 3\.\d+", c)
]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


def arguments(name: str) -> list[str]:
    return [found for instruction, found in instructions() if instruction == name]


def copied() -> list[str]:
    return [source for line in arguments("COPY") for source in shlex.split(line)[:-1]]


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored, "only what is named reaches the builder"
    for source in copied():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied())
    assert fnmatch.fnmatch("grow_cli/a/__pycache__", next(line for line in ignored if "pycache" in line))


def test_the_image_copies_all_that_the_wheel_is_made_of() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], PROJECT["project"]["readme"], "pyproject.toml"}
    assert needed | set(PROJECT["project"]["license-files"]) == set(copied())
    assert PROJECT["tool"]["hatch"]["version"]["path"].split("/")[0] in copied()


def test_the_image_is_of_a_python_that_is_supported_and_takes_torchs_build_as_an_argument() -> None:
    (base,) = arguments("FROM")
    assert re.fullmatch(r"python:(3\.\d+)-slim", base)
    assert base[len("python:") :].partition("-")[0] in PYTHONS
    assert arguments("ARG") == ["TORCH=cpu"]
    torch = next(line for line in arguments("RUN") if "${TORCH}" in line)
    assert torch.endswith("torch torchvision")
    order = [name for name, _ in instructions()]
    assert order.index("ARG") < order.index("RUN"), "an argument is known below its line only"


def test_the_image_runs_as_a_user_with_a_home_who_owns_its_folders() -> None:
    order = [f"{name} {line}" for name, line in instructions()]
    made = next(line for line in order if "useradd" in line)
    (user,) = arguments("USER")
    assert f" {user} " in f"{made} "
    assert "--create-home" in made
    (environment,) = arguments("ENV")
    said = dict(pair.split("=") for pair in environment.split())
    assert said["HOME"] == f"/home/{user}"
    for folder in (said["GROW_DATA_DIR"], *arguments("WORKDIR")):
        assert re.search(rf"chown {user}:{user} .*{folder}\b", made), folder
    assert order.index(f"USER {user}") > max(i for i, line in enumerate(order) if line.startswith(("COPY", "RUN")))


def test_the_image_runs_the_demo(grow: Callable) -> None:
    (program,) = (json.loads(line) for line in arguments("ENTRYPOINT"))
    assert program == list(PROJECT["project"]["scripts"])
    (typed,) = (json.loads(line) for line in arguments("CMD"))
    demo = re.search(r"(?m)^demo:.*\n\t\$\(BIN\)/grow (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert demo is not None
    assert typed[: len(demo[1].split())] == demo[1].split()
    left = grow(typed[0], "--cfg", "job", *typed[1:])
    assert left.code == 0, left.err


def workflow() -> dict[str, Any]:
    return dict(yaml.safe_load(WORKFLOW.read_text(encoding="utf-8")))


def test_the_workflow_runs_what_a_newcomer_does_on_every_python_and_builds_the_pages() -> None:
    jobs = workflow()["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == PYTHONS
    assert [step["run"] for step in jobs["test"]["steps"] if "run" in step] == [".ci/run"]
    assert [step["run"] for step in jobs["docs"]["steps"] if "run" in step] == ["make docs"]
    for job in jobs.values():
        (python,) = (step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
        assert python in (*PYTHONS, "${{ matrix.python }}")
        assert job["timeout-minutes"]


@pytest.mark.parametrize(
    "line", [step["run"] for job in workflow()["jobs"].values() for step in job["steps"] if "run" in step]
)
def test_every_command_of_the_workflow_exists(line: str) -> None:
    program = shlex.split(line)[0]
    lines = [line] if program == "make" else (ROOT / program).read_text(encoding="utf-8").splitlines()
    if program != "make":
        assert (ROOT / program).stat().st_mode & 0o100, f"{program} can be run"
    targets = [word for found in lines if found.startswith("make ") for word in found.split()[1:]]
    assert targets
    for target in targets:
        assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8")), target


def test_the_page_names_every_extra_that_a_user_may_want() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    extras = set(PROJECT["project"]["optional-dependencies"]) - {"dev", "docs", "bench"}
    assert not {name for name in extras if f"`{name}`" not in page}
    assert "`progress=lines`" in page
    assert "`GROW_DATA_DIR`" in page

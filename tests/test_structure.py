"""The house's rules: dependencies point one way, no import circles, options import no torch, each fact is told once."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

PACKAGE = Path(__file__).resolve().parent.parent / "grow_cli"
CONF = PACKAGE.parent / "conf"

# each room may import those below it and the ground floor; type-checking imports count
FLOORS = (
    {"errors", "files", "hardware", "keys", "tasks", "words"},
    {"registry", "console", "signals", "clusters", "launched"},
    {"config"},
    {"schema"},
    {"records", "theory", "data"},
    {"models"},
    {"surgery"},
    {"moment"},
    {"scoring", "optimizers", "schedules", "loggers"},
    {"methods", "triggers"},
    {"training"},
    {"run"},
    {"controls", "analysis"},
    {"sizes", "tuning"},
    {"cli"},
    {"commands"},
    {"testing", "api"},
    {"estimators"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# what looks upwards, and why
UPWARDS = {
    ("registry", "config"): "an option's check_run reads the whole config, for its type only",
    ("cli", "commands"): "the table of commands loads each one when it is called",
}
# modules that import each other, and why
CIRCLES: dict[frozenset[str], str] = {
    frozenset({"grow_cli.config", "grow_cli.registry"}): "an option's check_run is typed by the config that holds it",
}


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def _imports(module: str) -> frozenset[str]:
    """The modules of the package that one imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            found |= {name} if name and name not in ("grow_cli", module) else set()
    return frozenset(found)


@pytest.mark.parametrize("module", [m for m in MODULES if "." in m and m != "grow_cli.__main__"])
def test_dependencies_point_one_way(module: str) -> None:
    room = module.split(".")[1]
    for other in (name.split(".")[1] for name in _imports(module)):
        allowed = other == room or FLOOR[other] < FLOOR[room] or (room, other) in UPWARDS
        assert allowed, f"{module} imports {other}, which is not below it"


def test_no_module_of_methods_or_triggers_imports_the_loop_or_the_folder() -> None:
    for module in MODULES:
        if module.startswith(("grow_cli.methods", "grow_cli.triggers")):
            used = _imports(module)
            assert not {name for name in used if name.startswith("grow_cli.training")}, module
            assert "grow_cli.records.folder" not in used, module


def test_no_two_modules_import_each_other_but_those_with_a_reason() -> None:
    found = {frozenset({a, b}) for a in MODULES for b in _imports(a) if a in _imports(b)}
    assert found == set(CIRCLES)


def test_no_file_and_no_function_is_too_long_to_be_read_in_one_sitting() -> None:
    for module, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 350, module
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{module}.{node.name}"


def test_options_lists_and_config_errors_import_no_torch() -> None:
    code = (
        "import sys; from grow_cli import config, registry; import grow_cli.commands.train, grow_cli.commands.listing\n"
        "config.register_schemas(); assert len(registry.groups()) == 7, registry.groups().keys()\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'pandas', 'matplotlib', 'numpy', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _compared(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_no_method_is_named_outside_its_own_file() -> None:
    names = {p.stem for p in (CONF / "method").glob("*.yaml")}
    for module, path in MODULES.items():
        if module.startswith("grow_cli.methods."):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                assert not _compared(node) & names, f"{module}:{node.lineno} asks which method it is"


def test_no_code_probes_a_models_option_for_a_fields_name() -> None:
    for module, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert "getattr(config.model" not in text, module
        assert "hasattr(model" not in text, module


def test_a_score_is_named_in_tasks_only() -> None:
    """Which score a task has, and how it is called: everything else asks."""
    from grow_cli.tasks import TASKS

    names = {task.score for task in TASKS.values()} | {task.label for task in TASKS.values()}
    for module, path in MODULES.items():
        if module in ("grow_cli.tasks", "grow_cli.training.display"):  # the display shows a column before the first row
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                assert not _compared(node) & names, f"{module}:{node.lineno} asks which score it is"


def test_every_option_has_a_yaml_file_with_a_line_of_description() -> None:
    from grow_cli import registry
    from grow_cli.commands.choices import describe

    for group, options in registry.groups().items():
        described = describe(group)
        assert set(options) <= set(described), group
        assert all(described.values()), group


def test_a_default_is_written_once() -> None:
    """In the dataclass; a YAML of an option holds nothing, and one of a preset only what differs."""
    from grow_cli import registry

    # a trigger that asks the method for its thresholds, which are the trigger's own where the method has none
    by_reference = {("eta", "tau"), ("eta", "alpha")}
    for group, options in registry.groups().items():
        for path in sorted((CONF / group).glob("*.yaml")):
            raw: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
            schema = next(d for d in raw["defaults"] if (isinstance(d, str) and "/schema/" in d) or d == "alether")
            name = str(schema).partition("@")[0].rpartition("/")[2]
            defaults = {
                f.name: f.default_factory() if f.default is MISSING else f.default  # type: ignore[misc]
                for f in fields(options[name])
            }
            own = raw.get(group, {}) if "@package _global_" in path.read_text(encoding="utf-8") else raw
            for key, value in own.items():
                if key != "defaults" and (path.stem, key) not in by_reference:
                    assert path.stem != name, f"{path.name} sets {key}: the dataclass is the place of a default"
                    assert defaults[key] != value, f"{path.name} repeats {key}"
    root = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))
    assert set(root) == {"defaults", "hydra"}


def test_every_part_declares_one_role_for_a_key() -> None:
    from grow_cli import registry, schema

    for group, options in registry.groups().items():
        roles: dict[str, set[str]] = {}
        for cls in options.values():
            for f in fields(cls):
                roles.setdefault(f.name, set()).add(f.metadata.get("role", ""))
        assert all(len(found) == 1 for found in roles.values()), (group, roles)
    assert schema.keys_with("place") == ["data_dir", "device"]
    assert schema.keys_with("speed") == [
        "dataset.storage",
        "threads",
        "compile",
        "graph",
        "deterministic",
        "evaluate.batch_size",
    ]
    assert schema.keys_with("shown") == ["logger", "progress", "checkpoint", "sweep"]
    assert set(schema.keys_with("data")) == {"dataset.path", "dataset.test_path", "dataset.root", "dataset.pattern"}
    assert schema.keys_with("folder") == ["run_dir"]
    assert schema.role_of("logger.of.wandb.project") == schema.role_of("checkpoint.every") == "shown"
    assert schema.role_of("+trigger@trigger.of.eta") == schema.role_of("seed") == ""


def test_usage_and_completion_read_one_table_of_commands() -> None:
    from grow_cli.cli import COMMANDS, usage
    from grow_cli.commands.completion import candidates

    assert candidates("grow ") == sorted(COMMANDS)
    assert all(f"grow {name} " in usage() for name in COMMANDS)
    for name, command in COMMANDS.items():
        assert callable(command.load().main), name

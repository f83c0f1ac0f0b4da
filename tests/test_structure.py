"""The house's rules: dependencies point one way, options import no torch, no method's name outside its own files."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "grow_cli"

# each room may import those below it, itself, and the ground floor (errors, files, registry, console, config)
BELOW = {
    "theory": set(),
    "data": set(),
    "models": {"data"},
    "surgery": {"models", "data"},
    "methods": {"surgery", "theory", "models", "data", "training"},
    "triggers": {"surgery", "theory", "models", "data", "training"},
    "recording": set(),
    "training": {"methods", "triggers", "surgery", "theory", "models", "data", "recording"},
    "analysis": {"recording", "models", "data", "theory"},
    "controls": {"run", "training", "models", "recording"},
    "commands": {"run", "controls", "analysis", "recording"},
    "run": {"training", "methods", "triggers", "surgery", "theory", "models", "data", "recording"},
    "cli": {"commands"},
}
GROUND = {"errors", "files", "registry", "console", "config"}


def _imports(path: Path, *, top_level: bool = False) -> set[str]:
    """The modules that a file imports, those for type checking only left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checking = {
        id(n)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for n in ast.walk(node)
    }
    found = set()
    for node in tree.body if top_level else ast.walk(tree):
        if id(node) in checking:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_dependencies_point_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in GROUND | {"__init__", "__main__"}:
        return
    allowed = BELOW[room] | GROUND | {room}
    used = {name.split(".")[1] for name in _imports(path) if name.startswith("grow_cli.")} - {"__version__"}
    assert used <= allowed


def test_training_is_imported_by_methods_for_the_warm_up_only() -> None:
    for path in [*PACKAGE.glob("methods/*.py"), *PACKAGE.glob("triggers/*.py")]:
        used = {name for name in _imports(path) if name.startswith("grow_cli.training")}
        assert used <= {"grow_cli.training.warmup.warm_up_alone"}


def test_options_lists_and_config_errors_import_no_torch() -> None:
    code = (
        "import sys; from grow_cli import config, registry; import grow_cli.commands.train, grow_cli.commands.listing\n"
        "config.register_schemas(); assert len(registry.groups()) == 7, registry.groups().keys()\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_method_is_named_outside_its_own_file() -> None:
    names = {p.stem for p in (PACKAGE.parent / "conf" / "method").glob("*.yaml")}
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "methods":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                words = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                assert not words & names, f"{path.name}:{node.lineno} asks which method it is"


def test_every_option_has_a_yaml_file_with_a_line_of_description() -> None:
    from grow_cli import registry
    from grow_cli.commands.listing import describe

    for group, options in registry.groups().items():
        described = describe(group)
        assert set(options) <= set(described), group
        assert all(described.values()), group

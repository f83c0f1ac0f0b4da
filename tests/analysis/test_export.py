"""`grow export`: every net, in every format, gives the same outputs where grow cannot be imported."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from growing_nets import NETS, grow_at_random, one_thread, spec, train
from torch import nn

from grow_cli.analysis.export import FORMATS, export, place, write
from grow_cli.analysis.export_code import as_code
from grow_cli.commands.overrides import with_overrides
from grow_cli.config import build
from grow_cli.errors import UserError
from grow_cli.models.mlp import MLPOption
from grow_cli.models.modules.network import GrowableModel
from grow_cli.records.folder import RunFolder

__all__ = ["one_thread"]

ABOUT: dict[str, Any] = {
    "precision": "float32",
    "model": "made up",
    "method": "random",
    "dataset": 'a "strange" \\name"""',
    "widths": "3",
    "task": "classification",
    "input_shape": [1, 4, 4],
    "outputs": 3,
    "classes": ["'a'", '"""b"""', "c\\"],
    "raw_inputs": "bytes from 0 to 255",
    "mean": [33.25],
    "std": [78.5],
    "run": "a\nrun",
    "step": 7,
}


def about(model: GrowableModel) -> dict[str, Any]:
    return ABOUT | {"input_shape": list(model.input_shape)}


GROWN = [f"{name}, grown" for name in NETS]
CASES = [*GROWN, "mlp linear", "regression"]
# every model; tracing one takes these formats about a second, so the others are slow tests
TRACED = [
    *("mlp rational, grown", "mlp linear", "cnn gap, grown", "residual_mlp batch, grown", "residual_cnn, grown"),
    *("resnet18 batch, grown", "vit, grown", "regression"),
]

# Without grow and outside the repository: load what is in each folder, and hold it against the outputs kept there.
STRANGER = """
import importlib.util, json, sys
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("grow_cli", "growing_nets", "hydra", "omegaconf"):
            raise ImportError(f"{name} is not to be had here")

sys.meta_path.insert(0, Refuse())
sys.path[:0] = json.loads(sys.argv[2])
try:
    import grow_cli
    sys.exit("grow_cli can be imported")
except ImportError:
    pass
import torch
torch.set_num_threads(1)

def state_dict(folder):
    found = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.load()

def torch_export(folder):
    return torch.export.load(folder / "model.pt2").module()

def onnx(folder):
    import onnxruntime
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    return lambda x: torch.from_numpy(session.run(None, {"input": x.numpy()})[0])

apart = {}
for folder in sorted(Path.cwd().iterdir()):
    try:
        net = globals()[sys.argv[1]](folder)
        with torch.no_grad():
            pairs = [(net(x), y) for x, y in torch.load(folder / "expected", weights_only=True)]
        apart[folder.name] = max(float((a - b).abs().max() / max(1, b.abs().max())) for a, b in pairs)
    except Exception as error:
        apart[folder.name] = repr(error)
print(json.dumps(apart))
"""


def made(case: str) -> GrowableModel:
    """The net of a case, trained a little, as it would be exported."""
    if case == "regression":
        torch.manual_seed(1)
        return MLPOption(hidden=[4]).build(spec((2,), outputs=2, task="regression")).eval()
    name, _, grown = case.partition(", ")
    model, x = NETS[name].build()
    if grown:
        grow_at_random(model, None)
    train(model, torch.optim.SGD(model.parameters(), lr=0.01), x)
    return model.eval()


def seen_by_a_stranger(folder: Path, kind: str, cases: list[str]) -> dict[str, Any]:
    """Case → largest difference of the outputs, relative to the largest, or the error's text."""
    for case in cases:
        model = made(case)
        place = folder / case
        place.mkdir(parents=True)
        write(model, kind, about(model), place / f"model{FORMATS[kind]}")
        batches = [torch.randn(n, *model.input_shape) for n in (1, 7)]
        prepared = batches
        if kind != "state_dict":  # a graph normalises by itself
            if len(model.input_shape) == 3:
                batches = [torch.randint(256, x.shape, dtype=torch.uint8) for x in batches]
            prepared = [(x.float() - ABOUT["mean"][0]) / ABOUT["std"][0] for x in batches]
        with torch.no_grad():
            torch.save([(x, model(y)) for x, y in zip(batches, prepared, strict=True)], place / "expected")
    packages = sys.modules.get("onnxruntime")
    paths = [] if packages is None else [str(Path(str(packages.__file__)).parent.parent)]
    command = [sys.executable, "-I", "-W", "error", "-c", STRANGER, kind, json.dumps(paths)]
    if kind == "onnx":
        command[2:4] = []  # numpy and ONNX Runtime warn as they please
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What a stranger sees of each format's cases; looked once."""
    known: dict[str, dict[str, Any]] = {}

    def look(kind: str) -> dict[str, Any]:
        if kind not in known:
            cases = CASES if kind == "state_dict" else TRACED
            known[kind] = seen_by_a_stranger(tmp_path_factory.mktemp(kind), kind, cases)
        return known[kind]

    return look


def need_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)


@pytest.mark.parametrize("case", CASES)
def test_the_code_and_its_weights_give_the_same_outputs_without_grow(case: str, seen: Any) -> None:
    assert seen("state_dict")[case] < 1e-5


@pytest.mark.parametrize("case", TRACED)
def test_the_program_gives_the_same_outputs_without_grow(case: str, seen: Any) -> None:
    assert seen("torch_export")[case] < 1e-5


@pytest.mark.filterwarnings("ignore")  # its packages warn as they please
@pytest.mark.parametrize("case", TRACED)
def test_onnx_runtime_gives_the_same_outputs_without_grow(case: str, seen: Any) -> None:
    need_onnx()
    assert seen("onnx")[case] < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["torch_export", "onnx"])
def test_every_other_net_gives_the_same_outputs_without_grow(kind: str, tmp_path: Path) -> None:
    if kind == "onnx":
        need_onnx()
    apart = seen_by_a_stranger(tmp_path, kind, [case for case in CASES if case not in TRACED])
    assert {case: found for case, found in apart.items() if not isinstance(found, float) or found >= 1e-5} == {}


@pytest.mark.parametrize("case", GROWN)
def test_the_exported_code_names_every_number_of_the_net(case: str) -> None:
    model = made(case)
    source, weights = as_code(model, about(model), "model")
    assert sum(t.numel() for t in weights.values()) == sum(t.numel() for t in model.state_dict().values())
    imported = {
        name.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported <= {"torch", "torch.nn", "pathlib"}


def test_names_from_outside_stay_words_in_the_exported_code() -> None:
    model = made("mlp, grown")
    source, _ = as_code(model, about(model), "model")
    tree = ast.parse(source)
    assert ABOUT["dataset"] in str(ast.get_docstring(tree))
    classes = next(n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "CLASSES")
    assert ast.literal_eval(classes.value) == tuple(ABOUT["classes"])


def test_the_exported_code_can_be_trained_on() -> None:
    model = made("cnn gap, grown")
    source, weights = as_code(model, about(model), "model")
    space: dict[str, Any] = {"__name__": "exported", "__file__": "model.py"}
    exec(source, space)
    net = space["Net"]()
    net.load_state_dict(weights)
    x = torch.randn(6, *model.input_shape)
    assert net.training
    torch.testing.assert_close(net(x), model.train()(x))


def test_a_net_that_no_code_can_tell_is_refused_with_the_format_that_takes_it() -> None:
    class Secret(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum() > 0 else x

    model = made("mlp, grown")
    model.hidden.append(Secret())  # type: ignore[operator, union-attr]
    with pytest.raises(UserError, match=r"cannot be written as code .*: use --format torch_export"):
        as_code(model, about(model), "model")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that has grown, which no test may change."""
    from conftest import SMALL

    from grow_cli.cli import main

    folder = tmp_path_factory.mktemp("runs")
    overrides = [o for o in SMALL if not o.startswith("method.")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["grow"])
        patch.chdir(folder)
        with pytest.raises(SystemExit) as left:
            main(["train", *overrides, "model=mlp_tiny", "method=tiny", "dataset=digits", f"run_dir={folder / 'run'}"])
    assert not left.value.code
    return folder / "run"


@pytest.mark.parametrize(("kind", "names"), [("state_dict", {"model.pt", "model.py"}), ("torch_export", {"model.pt2"})])
def test_the_command_writes_into_the_run_folder_and_says_how_to_load(
    kind: str, names: set[str], run: Path, tmp_path: Path, grow: Any
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    done = grow("export", copy, "--format", kind)
    assert (done.code, done.err) == (0, "")
    assert {path.name for path in (copy / "export").iterdir()} == names
    assert all(str(copy / "export" / name) in done.out for name in names)
    assert "load it: " in done.out


def test_prepared_raw_inputs_are_what_grow_trains_on(run: Path, tmp_path: Path, grow: Any) -> None:
    from grow_cli.analysis.phases import load_phases
    from grow_cli.data.tensors import load_data

    assert grow("export", run, "-o", tmp_path).code == 0
    space: dict[str, Any] = {"__name__": "model", "__file__": str(tmp_path / "model.py")}
    exec((tmp_path / "model.py").read_text(encoding="utf-8"), space)
    config = build(with_overrides(RunFolder(run), []))
    raw = config.dataset.load(tmp_path)
    data = load_data(config.dataset, data_dir=tmp_path, subset=config.subset, device=torch.device("cpu"))
    torch.testing.assert_close(space["prepare"](raw.test_x), data.test.x)
    assert space["CLASSES"] == raw.classes
    with torch.no_grad():
        outputs = space["load"]()(space["prepare"](raw.test_x))
        torch.testing.assert_close(outputs, load_phases(RunFolder(run))[-1].model(data.test.x))
    accuracy = (outputs.argmax(1) == raw.test_y).double().mean().item()
    assert accuracy == pytest.approx(RunFolder(run).read_summary()["test_accuracy"])
    one = raw.test_x[0]
    for wrong in (one, one.reshape(1, -1, 1), one.sum(), one[None, :-1]):
        for asked in (space["prepare"], space["load"]()):
            with pytest.raises(ValueError, match=r"must have \(n, .*: give one sample as x\[None\]"):
                asked(wrong)


def test_a_program_carries_what_its_inputs_are(run: Path, tmp_path: Path, grow: Any) -> None:
    assert grow("export", run, "--format", "torch_export", "-o", tmp_path / "net.pt2").code == 0
    files = {"about.json": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=files)
    about = json.loads(files["about.json"])
    assert about["normalisation"].startswith("in the graph: it takes uint8")
    with pytest.raises((RuntimeError, AssertionError), match="dtype"):
        program.module()(torch.randn(2, 1, 8, 8))  # prepared already: refused, not normalised twice
    assert about["input_shape"] == [1, 8, 8]
    assert len(about["classes"]) == 10
    assert len(about["mean"]) == len(about["std"]) == 1


def test_best_is_the_net_of_the_best_checkpoint(run: Path, tmp_path: Path, grow: Any) -> None:
    assert grow("export", run, "--best", "-o", tmp_path).code == 0
    best = torch.load(run / "checkpoints" / "best.pt", weights_only=True)["model"]
    found = torch.load(tmp_path / "model.pt", weights_only=True)
    assert torch.equal(found["head.weight"], best["head.weight"])


def test_the_export_needs_no_dataset(run: Path, tmp_path: Path, grow: Any) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    config = copy / ".hydra" / "config.yaml"
    lines = config.read_text(encoding="utf-8").split("dataset:\n", 1)
    folder = f"dataset:\n  path: {tmp_path / 'nowhere'}\n"
    config.write_text(folder.join(lines).replace("name: digits", "name: image_folder"), encoding="utf-8")
    done = grow("export", copy)
    assert (done.code, done.err) == (0, "")
    assert grow("export", run, "-o", tmp_path).code == 0
    with_data, without = (f.read_text(encoding="utf-8") for f in (tmp_path / "model.py", copy / "export" / "model.py"))
    assert without.split("import torch", 1)[1] == with_data.split("import torch", 1)[1], "constants and code"


def test_what_an_older_checkpoint_does_not_hold_is_taken_from_the_data(run: Path, tmp_path: Path, grow: Any) -> None:
    copy = shutil.copytree(run, tmp_path / run.name)
    last = copy / "checkpoints" / "last.pt"
    state = torch.load(last, weights_only=True)
    del state["inputs"]
    last.unlink()
    torch.save(state, last)
    for folder, output in ((copy, "older"), (run, "newer")):
        assert grow("export", folder, "-o", tmp_path / output).code == 0
    assert grow("eval", copy).code == 0
    config = copy / ".hydra" / "config.yaml"
    text = config.read_text(encoding="utf-8").replace("name: digits", "name: mnist")
    config.write_text(text, encoding="utf-8")
    lost = grow("export", copy, "data_dir=nowhere", "-o", tmp_path / "lost")
    assert lost.code == 2, "another place of the data can be given"
    assert "nowhere" in lost.err
    assert "seed=1: a net is exported as it was trained" in grow("export", run, "seed=1").err
    older, newer = ((tmp_path / name / "model.py").read_text(encoding="utf-8") for name in ("older", "newer"))
    assert older == newer


def test_mistakes_are_answered_in_a_sentence(run: Path, tmp_path: Path, grow: Any, monkeypatch: Any) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    monkeypatch.setattr("grow_cli.analysis.export.find_spec", lambda name: None)
    for arguments, sentence in (
        ((), "grow export needs a run folder"),
        (("nowhere",), "nowhere is not a run folder"),
        ((copy,), "wait for the run's first"),
        ((copy, "--best"), "leave --best out"),
        ((run, "--format", "zip"), "--format zip: must be one of state_dict, torch_export, onnx"),
        (
            (run, "--format", "onnx"),
            "--format onnx needs packages that are not installed: pip install 'grow-cli[onnx]'",
        ),
        ((run, "-o", "net.onnx"), "a file of --format state_dict ends in .pt"),
        ((run, "-o", "my-net.pt"), "use letters, digits and _"),
        ((run, "-o", "/proc/nothing"), "choose another place with -o PATH"),
    ):
        done = grow("export", *arguments)
        assert done.code == 2, arguments
        assert sentence in done.err
        assert len(done.err.splitlines()) == 1


def test_output_names_a_folder_or_a_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert place(folder, "onnx", None) == tmp_path / "export" / "model.onnx"
    assert place(folder, "onnx", Path("a")) == Path("a/model.onnx")
    assert place(folder, "onnx", Path("a/b.onnx")) == Path("a/b.onnx")


def test_a_failed_export_leaves_the_older_one_whole(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build(with_overrides(RunFolder(run), []))
    file = tmp_path / "model.pt"
    export(RunFolder(run), config, "state_dict", "last", file)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        export(RunFolder(run), config, "state_dict", "last", file)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

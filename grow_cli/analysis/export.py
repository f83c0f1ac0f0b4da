"""`grow export`: the grown net in files that work without grow. No torch at the top, because the command reads the formats."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError
from grow_cli.records.folder import RunFolder
from grow_cli.records.words import widths_text

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel

FORMATS = {"state_dict": ".pt", "torch_export": ".pt2", "onnx": ".onnx"}
"""Name → the suffix of its file."""

_ONNX_PACKAGES = ("onnx", "onnxscript")


def check_packages(kind: str) -> None:
    """UserError where the format needs packages that are not there."""
    if kind == "onnx" and not all(map(find_spec, _ONNX_PACKAGES)):
        raise UserError("--format onnx needs packages that are not installed: pip install 'grow-cli[onnx]'")


def place(folder: RunFolder, kind: str, output: Path | None) -> Path:
    """The file to write: `-o` names it if it ends in the format's suffix, and the folder that holds `model.*` otherwise."""
    suffix = FORMATS[kind]
    if output is None:
        return folder.path / "export" / f"model{suffix}"
    if output.suffix not in FORMATS.values() or output.is_dir():
        return output / f"model{suffix}"
    if output.suffix != suffix:
        raise UserError(f"-o {output}: a file of --format {kind} ends in {suffix}")
    if kind == "state_dict" and not output.stem.isidentifier():
        raise UserError(
            f"-o {output}: {output.stem}.py beside it is imported by its name, so use letters, digits and _"
        )
    return output


def export(folder: RunFolder, config: Config, kind: str, which: str, file: Path) -> list[Path]:
    """Write the net of a checkpoint (`last` or `best`) in this format; the files written."""
    from grow_cli.analysis.phases import checkpoint_of, data_of, load_phase

    phase = load_phase(checkpoint_of(folder, which))
    inputs = phase.trained.inputs or data_of(config, phase).inputs()  # older checkpoints do not hold them
    about = describe(phase.model, config, inputs)
    about |= {"run": folder.path.resolve().name, "step": phase.step}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return write(phase.model, kind, about, file)
    except OSError as error:
        raise UserError(
            f"{error.filename or file} cannot be written ({error.strerror}): choose another place with -o PATH"
        ) from error


def describe(model: GrowableModel, config: Config, inputs: dict[str, Any]) -> dict[str, Any]:
    """What a user of the net must know, as plain data; `inputs` is `Data.inputs` of its training."""
    return {
        "model": config.model.name,
        "method": config.method.name,
        "dataset": config.dataset.name,
        "widths": widths_text(model.widths()),
        "task": model.task,
        "precision": str(next(model.parameters()).dtype).removeprefix("torch."),
        "input_shape": list(model.input_shape),
        "outputs": model.outputs,
        "classes": inputs["classes"] if model.task == "classification" else [],
        "raw_inputs": f"bytes from 0 to {inputs['white']}" if len(model.input_shape) == 3 else None,
        "image": inputs.get("image") or None,
        "table": inputs.get("table") or None,
        # float32, exactly
        **{key: [float(f"{value:.9g}") for value in inputs[key].flatten().tolist()] for key in ("mean", "std")},
    }


def write(model: GrowableModel, kind: str, about: dict[str, Any], file: Path) -> list[Path]:
    """The net, in evaluation mode and on the CPU, in this format; the files written."""
    if kind == "state_dict":
        from grow_cli.analysis import export_code

        return export_code.write(model, about, file)
    from grow_cli.analysis import export_program  # torch.export takes a second to import

    return [(export_program.write_onnx if kind == "onnx" else export_program.write_torch)(model, about, file)]

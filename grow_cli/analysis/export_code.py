"""A net as a Python file that needs only torch, and its weights as plain tensors.

torch.fx traces the net; each of torch's own modules in it becomes a line of `__init__`, everything between them a line
of `forward`. The file is run once before it is handed out, and its net compared with the original.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from grow_cli.analysis import export_inputs
from grow_cli.errors import UserError
from grow_cli.files import write_atomically, write_text
from grow_cli.models.modules.activations import Rational, ReLURight, Sine
from grow_cli.models.modules.network import GrowableModel

_COPIED = (Rational, ReLURight, Sine)
"""Modules whose classes are copied into the file: it reads better than their traces."""

_TOLERANCE = 1e-5  # of the largest output


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # a slice of a buffer is a line, too

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _COPIED) or super().is_leaf_module(m, module_qualified_name)


def write(model: GrowableModel, about: dict[str, Any], file: Path) -> list[Path]:
    """The weights, and the code beside them."""
    source, weights = as_code(model, about, file.stem)
    code = file.with_suffix(".py")
    write_atomically(file, lambda temporary: torch.save(weights, temporary))
    write_text(code, source)
    return [file, code]


def as_code(model: GrowableModel, about: dict[str, Any], name: str) -> tuple[str, dict[str, Tensor]]:
    """The source of `<name>.py`, and the state dict of `<name>.pt` that its `Net` takes; UserError where it cannot be."""
    try:
        graph = _Tracer().trace(model)
        lines, weights, copied = _modules(model, graph)
        source = _source(lines, copied, _forward(graph), about, name)
        _compare(source, weights, model)
    except UserError:
        raise
    except Exception as error:  # whatever a plugin's net, or what was made of it, runs into
        raise UserError(
            f"model={about['model']} cannot be written as code ({type(error).__name__}: {str(error).splitlines()[0]}): "
            "use --format torch_export"
        ) from error
    return source, weights


def _modules(model: nn.Module, graph: fx.Graph) -> tuple[list[str], dict[str, Tensor], list[type]]:
    """The lines of `__init__`, their tensors by name, and the classes to copy; the graph's targets become flat names."""
    lines: dict[str, str] = {}
    weights: dict[str, Tensor] = {}
    copied: list[type] = []
    for node in graph.nodes:
        if node.op not in ("call_module", "get_attr"):
            continue
        flat = str(node.target).replace(".", "_")
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            lines[flat] = f"self.{flat} = {_constructor(module)}"
            weights |= {f"{flat}.{key}": tensor.clone() for key, tensor in module.state_dict().items()}
            if isinstance(module, _COPIED) and type(module) not in copied:
                copied.append(type(module))
        else:
            parent, _, leaf = str(node.target).rpartition(".")
            tensor = getattr(model.get_submodule(parent), leaf)
            empty = f"torch.empty({tuple(tensor.shape)}, dtype={tensor.dtype})"
            parameter = isinstance(tensor, nn.Parameter)
            lines[flat] = (
                f"self.{flat} = nn.Parameter({empty})" if parameter else f"self.register_buffer({flat!r}, {empty})"
            )
            weights[flat] = tensor.detach().clone()
        node.target = flat
    return list(lines.values()), weights, copied


def _constructor(module: nn.Module) -> str:
    """The call that makes a module like this one: its class's arguments are its attributes."""
    cls = type(module)
    if not isinstance(module, _COPIED) and getattr(nn, cls.__name__, None) is not cls:
        raise TypeError(f"{cls.__name__} is not in torch.nn")
    given = []
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in ("device", "dtype") or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name == "bias":
            value: Any = module.bias is not None
        elif name == "units":
            value = len(module.alpha)  # type: ignore[arg-type]
        else:
            value = getattr(module, name)
        default = parameter.default
        if default is parameter.empty:
            given.append(repr(value))
        elif value not in (default, (default, default)):  # torch makes pairs of numbers
            given.append(f"{name}={value!r}")
    prefix = "" if isinstance(module, _COPIED) else "nn."
    return f"{prefix}{cls.__name__}({', '.join(given)})"


def _forward(graph: fx.Graph) -> list[str]:
    """The lines of `forward(self, x)`."""
    code = graph.python_code("self").src.strip().splitlines()[1:]
    # fx frees each tensor after its last use: `; a = b = None`
    return [
        re.sub(r";\s+(\w+ = )+None", "", line).strip().replace("torch._C._nn.", "F.") for line in code if line.strip()
    ]


def _source(lines: list[str], copied: list[type], forward: list[str], about: dict[str, Any], name: str) -> str:
    parts = [
        f'"""{_docstring(about, name)}"""',
        "from pathlib import Path\n\nimport torch\nfrom torch import Tensor, nn"
        + ("\nfrom torch.nn import functional as F" if any(" = F." in line for line in forward) else ""),
    ]
    parts += (_bytes_prepared if about["task"] == "language" else _numbers_prepared)(about)
    parts += ["\n" + inspect.getsource(cls).rstrip() for cls in copied]
    parts.append(
        "\nclass Net(nn.Module):\n    def __init__(self) -> None:\n        super().__init__()\n"
        + "".join(f"        {line}\n" for line in lines)
        + "\n    def forward(self, x: Tensor) -> Tensor:\n        check(x)\n"
        + "\n".join(f"        {line}" for line in forward)
    )
    parts.append(
        f'\ndef load(weights: str | Path = Path(__file__).with_name("{name}.pt")) -> Net:\n'
        '    """The trained net, on the CPU and in evaluation mode."""\n'
        f"    net = Net(){_double(about)}\n"
        '    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))\n'
        "    return net.eval()\n"
    )
    return "\n\n".join(parts)


_CAST = {"float32": "float", "float64": "double"}


def _double(about: dict[str, Any]) -> str:
    """What makes a net of torch's own float32 one of float64, where it is to be one."""
    return ".double()" if about["precision"] == "float64" else ""


def _numbers_prepared(about: dict[str, Any]) -> list[str]:
    """Constants, `check` and `prepare` of a net that reads images or vectors."""
    constants = [f"CLASSES = {tuple(about['classes'])!r}"] if about["classes"] else []
    per = f".view({', '.join(['-1', *['1'] * (len(about['input_shape']) - 1)])})"
    constants += [f"{key.upper()} = torch.tensor({about[key]!r}){per}" for key in ("mean", "std")]
    shape = ", ".join(map(str, about["input_shape"]))
    return [
        "\n".join(constants),
        "\ndef check(x: Tensor) -> None:\n"
        '    """ValueError, in a sentence, where these are not inputs with a batch axis."""\n'
        f"    if tuple(x.shape[1:]) != ({shape},) or x.dim() == 0:\n"
        f'        raise ValueError(f"x has the shape {{tuple(x.shape)}} and must have (n, {shape}): give one sample as x[None]")',
        "\ndef prepare(x: Tensor) -> Tensor:\n"
        f'    """Inputs as the dataset holds them, as the net takes them: {about["precision"]}, normalised."""\n'
        "    check(x)\n"
        f"    return (x.{_CAST[about['precision']]}() - MEAN.to(x.device)) / STD.to(x.device)",
        *_from_files(about),
    ]


def _from_files(about: dict[str, Any]) -> list[str]:
    """Functions that make inputs of image files or of a table's rows, with their constants; none where they came otherwise."""
    table, image = about.get("table") or {}, about.get("image")
    constants: dict[str, Any] = {}
    copied: list[Any] = []
    if table.get("columns"):
        constants["COLUMNS"] = table["columns"]
        copied.append(export_inputs.encode)
    if "spread" in table:
        constants |= {"SPREAD": table["spread"], "TARGET_MEAN": table["mean"]}
        copied.append(export_inputs.values)
    if image:
        channels, height, width = about["input_shape"]
        constants |= {"SIZE": (width, height), "CHANNELS": channels, "BACKGROUND": image["background"]}
        copied.append(export_inputs.read)
    if not copied:
        return []
    lines = [f"{name} = {value!r}" for name, value in constants.items()]
    return [
        "from typing import Any  # noqa: E402\n\n" + "\n".join(lines),
        *("\n" + inspect.getsource(f).rstrip() for f in copied),
    ]


def _bytes_prepared(about: dict[str, Any]) -> list[str]:
    """The same of one that reads text."""
    (context,) = about["input_shape"]
    return [
        "\ndef check(x: Tensor) -> None:\n"
        '    """ValueError, in a sentence, where these are not bytes of texts."""\n'
        f"    if x.dim() != 2 or not 1 <= x.shape[1] <= {context}:\n"
        f'        raise ValueError(f"x has the shape {{tuple(x.shape)}} and must have (n, tokens), at most {context} tokens")',
        "\ndef prepare(x: Tensor) -> Tensor:\n"
        '    """Bytes, of any type, as the net takes them."""\n'
        "    check(x)\n"
        "    return x.long()",
    ]


def _docstring(about: dict[str, Any], name: str) -> str:
    grown = f"its hidden widths {about['widths']}" if about["widths"] else "without a hidden layer"
    language = about["task"] == "language"
    x = 'torch.tensor([list(b"def ")])' if language else "x"
    text = f"""\
A net of {about["dataset"]}: model={about["model"]}, method={about["method"]}, {grown}, step {about["step"]} of {about["run"]}.

Needs torch and {name}.pt beside this file:

    from {name} import load, prepare
    outputs = load()(prepare({x}))

{_text_in_words(about) if language else _numbers_in_words(about)}
Written by `grow export`, which is not needed to use it.
"""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _numbers_in_words(about: dict[str, Any]) -> str:
    """Inputs and outputs of a net that reads images or vectors."""
    shape = ", ".join(map(str, ["n", *about["input_shape"]]))
    unit = about["raw_inputs"] or "numbers in its own unit"
    image = "; ".join(f"{what}: {how}" for what, how in (about.get("image") or {}).items())
    files = f"`read(path)` makes them of an image file: {image}.\n" if image else ""
    table = about.get("table") or {}
    files += "`encode(rows)` makes them of rows of the table.\n" if table.get("columns") else ""
    if about["task"] == "classification":
        order = "in the order of CLASSES" if about["classes"] else "in the order of the dataset's labels"
        outputs = (
            f"`outputs`: (n, {about['outputs']}) logits, one per class, {order}; softmax(1) makes them probabilities."
        )
    else:
        outputs = f"`outputs`: (n, {about['outputs']}) numbers, in the unit of the dataset's targets."
        if "spread" in table:
            unit_of = f"`values(outputs)` is in the unit of {table['target']}, the target"
            outputs = f"`outputs`: (n, {about['outputs']}) numbers; {unit_of}."
    return f"""\
`x`: inputs as the dataset holds them, ({shape}): {unit}.
{files}`prepare` makes of them what the net takes, {about["precision"]} of the same shape: (x - MEAN) / STD, with the mean and the
standard deviation of the training split, of each channel or number.
{outputs}"""


def _text_in_words(about: dict[str, Any]) -> str:
    """The same of one that reads text."""
    (context,) = about["input_shape"]
    return f"""\
`x`: bytes of texts, (n, tokens), at most {context} tokens.
`outputs`: (n, tokens, {about["outputs"]}) logits of the byte that follows each; softmax(-1) makes them probabilities."""


def _compare(source: str, weights: dict[str, Tensor], model: GrowableModel) -> None:
    """Run the file that was just made, and hold its net against the original."""
    namespace: dict[str, Any] = {"__name__": "exported", "__file__": "exported.py"}
    exec(compile(source, "exported.py", "exec"), namespace)  # our own code: names from outside are literals in it
    x = model.example(3)
    net = namespace["Net"]()
    if x.dtype == torch.float64:
        net.double()
    net.load_state_dict(weights)
    with torch.no_grad():
        expected, found = model(x), net.eval()(x)
    if not torch.allclose(
        found, expected, rtol=0, atol=_TOLERANCE * max(1.0, float(expected.abs().max())), equal_nan=True
    ):
        raise ValueError("its outputs are not those of the net")

"""`grow export`: write the net in a format that needs no grow."""

from __future__ import annotations

from grow_cli.analysis.export import FORMATS, check_packages, place
from grow_cli.commands.overrides import config_of, existing, only
from grow_cli.console import OneOf, Parser
from grow_cli.schema import keys_with

_LOADING = {
    "state_dict": "from {stem} import load, prepare; outputs = load()(prepare(x))  # in its folder; {stem}.py says more",
    "torch_export": "net = torch.export.load({file!r}).module(); takes raw inputs; about.json in it (`unzip -p`)",
    "onnx": "onnxruntime.InferenceSession({file!r}).run(None, {{'input': x}}); takes raw inputs; the model's metadata",
}


def parser() -> Parser:
    """The command's arguments."""
    parser = Parser(
        prog="grow export",
        description="Write a run's net, as grown so far, in a format that loads without grow.",
    )
    parser.add_run()
    parser.add_argument(
        "--format",
        default="state_dict",
        type=OneOf("--format", FORMATS),
        metavar="NAME",
        help="state_dict (default): weights, and a Python file with the net that needs only torch; "
        "torch_export: a .pt2 program; onnx: a file for ONNX Runtime and others",
    )
    parser.add_best()
    parser.add_output("PATH", "a folder, or a file's name (default: RUN/export)")
    parser.add_overrides("data_dir, dataset.path: needed for runs of older versions")
    return parser


def main(arguments: list[str]) -> int:
    """Write the files and print how they are loaded."""
    options = parser().parse(arguments)
    check_packages(options.format)
    folder = existing(options.run)
    file = place(folder, options.format, options.output)
    from grow_cli.analysis.export import export

    # a net is written from the CPU, wherever it was trained
    allowed = [key for key in keys_with("place", "data") if key != "device"]
    only(options.overrides, allowed, "a net is exported as it was trained")
    config = config_of(folder, options.overrides)
    written = export(folder, config, options.format, options.which, file)
    print(*written, sep="\n")
    print("load it:", _LOADING[options.format].format(stem=file.stem, file=str(file)))
    return 0

"""`grow export`: the grown net for use without grow."""

from __future__ import annotations

from pathlib import Path

from grow_cli.analysis.export import FORMATS, check_packages, place
from grow_cli.commands.runs import existing, only, with_overrides
from grow_cli.console import Parser
from grow_cli.errors import UserError

_LOADING = {
    "state_dict": "from {stem} import load, prepare; outputs = load()(prepare(x))  # in its folder; {stem}.py says more",
    "torch_export": "net = torch.export.load({file!r}).module(); its inputs: about.json in it (`unzip -p`)",
    "onnx": "onnxruntime.InferenceSession({file!r}).run(None, {{'input': x}}); its inputs: the model's metadata",
}


def main(arguments: list[str]) -> int:
    """Write a run's net, as far as it has grown, in a format that loads where grow is not installed."""
    parser = Parser(prog="grow export", description=main.__doc__)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument(
        "--format",
        default="state_dict",
        metavar="NAME",
        help="state_dict (default): weights, and a Python file with the net, which needs torch only; torch_export: "
        "a .pt2 program; onnx: for ONNX Runtime and others",
    )
    parser.add_argument(
        "--best", action="store_true", help="the checkpoint with the best validation instead of the last"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PATH", help="a folder, or a file's name (default: RUN/export)"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="data_dir, dataset.path: for runs of older versions"
    )
    options = parser.parse_intermixed_args(arguments)
    if options.run is None:
        raise UserError("grow export needs a run folder: grow export RUN")
    if options.format not in FORMATS:
        raise UserError(f"--format {options.format}: must be one of {', '.join(FORMATS)}")
    check_packages(options.format)
    folder = existing(options.run)
    file = place(folder, options.format, options.output)
    from grow_cli import config as configuration
    from grow_cli.analysis.export import export

    only(options.overrides, ("data_dir", "dataset.path"), "a net is exported as it was trained")
    config = configuration.build(with_overrides(folder, options.overrides))
    written = export(folder, config, options.format, "best" if options.best else "last", file)
    print(*written, sep="\n")
    print("load it:", _LOADING[options.format].format(stem=file.stem, file=str(file)))
    return 0

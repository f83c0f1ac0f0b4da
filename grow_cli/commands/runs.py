"""`grow eval`, `grow resume`, `grow plot`, `grow explain`: the commands that take a run folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grow_cli import config as configuration
from grow_cli import console
from grow_cli.analysis.figures import SUFFIXES
from grow_cli.analysis.pictures import AGAINST, PICTURES, RUNS, draw
from grow_cli.errors import Interrupted, UserError
from grow_cli.recording.folder import RunFolder, runs_below

# What may differ on resume: where things are and what is shown, not what is computed.
_RESUMABLE = ("data_dir", "device", "progress", "dataset.path", "checkpoint.every")
# What may differ when a net is measured; another cut of the data would call training samples validation.
_MEASURABLE = ("data_dir", "device", "progress", "precision", "dataset.path", "evaluate.batch_size")


def main(command: str, arguments: list[str]) -> int:
    """Parse, then call the command."""
    parser = console.Parser(prog=f"grow {command}", description=_COMMANDS[command].__doc__)
    if command == "plot":
        parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
        parser.add_argument(
            "-o",
            "--output",
            type=Path,
            default=None,
            help="where it is drawn (default: growth.png, or the picture's name, in the first run)",
        )
        parser.add_argument(
            "--picture",
            default=RUNS,
            metavar="NAME",
            help="what is drawn; " + "; ".join(f"{name}: {shows}" for name, shows in PICTURES.items()),
        )
        parser.add_argument(
            "--against",
            default=next(iter(AGAINST)),
            metavar="COST",
            help=f"what runs are drawn against: {', '.join(AGAINST)} (default: %(default)s); growing counts in seconds and flops",
        )
    elif command == "explain":
        parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
        parser.add_argument(
            "-o", "--output", type=Path, help="where the page is written (default: explain.html in RUN)"
        )
    else:
        parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
        parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    if command == "eval":
        parser.add_argument(
            "--best", action="store_true", help="the checkpoint with the best validation instead of the last"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")
    if not any(not a.startswith("-") for a in arguments) and not {"-h", "--help"} & set(arguments):
        raise UserError(f"grow {command} needs a run folder: grow {command} RUN")
    return _COMMANDS[command](parser.parse_intermixed_args(arguments))


def evaluate(options: argparse.Namespace) -> int:
    """Rebuild the net of a run from its checkpoint, grown architecture included, and measure it on every split.

    On other images, too (dataset.path=DIR), normalised as those that the net was trained with.
    """
    folder = existing(options.run)
    only(options.overrides, _MEASURABLE, "a trained net is measured as it was trained")
    # of other images all are measured
    whole = ["subset=null"] * any(override.startswith("dataset.path=") for override in options.overrides)
    config = configuration.build(with_overrides(folder, [*options.overrides, *whole]))
    from grow_cli import run

    result = run.evaluate(config, folder, "best" if options.best else "last")
    if options.json:
        print(json.dumps(result))
        return 0
    from rich.table import Table

    table = Table(title=f"{folder.path} · {result['checkpoint']}.pt · step {result['step']:,}", title_justify="left")
    kinds = [k.removeprefix("test_") for k in result if k.startswith("test_")]
    for name in ("", "train", "val", "test"):
        table.add_column(name, justify="right")
    for kind in reversed(kinds):
        table.add_row(kind, *(f"{result[f'{split}_{kind}']:.4f}" for split in ("train", "val", "test")))
    held_out = "" if config.dataset.validation else "; nothing was held out, val is train"
    table.caption = f"{result['parameters']:,} parameters, widths {result['widths']}{held_out}"
    console.out.print(table)
    return 0


def resume(options: argparse.Namespace) -> int:
    """Go on with an interrupted run, across growth events, as if it had not been interrupted."""
    folder = existing(options.run)
    status = folder.read_summary().get("status")
    if status == "finished":
        raise UserError(f"{folder.path} is finished: there is nothing to resume")
    only(options.overrides, _RESUMABLE, "a resumed run goes on as it was configured")
    config = configuration.build(with_overrides(folder, options.overrides))
    folder.open()
    try:
        from grow_cli import run
        from grow_cli.recording.ending import show

        show(folder, run.train(config, folder, resume=True))
    except Interrupted:
        console.err.print(f"interrupted: go on with `grow resume {folder.path}`")
        raise
    finally:
        folder.close()
    return 0


def only(overrides: list[str], allowed: tuple[str, ...], why: str) -> None:
    """UserError for a key that may not be given."""
    for override in overrides:
        if override.split("=")[0] not in allowed:
            raise UserError(f"{override}: {why}, and only {', '.join(allowed)} can be given")


def plot(options: argparse.Namespace) -> int:
    """Draw runs against steps, epochs, seconds or FLOPs, growth events marked, or another picture of one run."""
    name, folders = options.picture, [existing(path) for path in options.runs]
    if name not in PICTURES:
        raise UserError(f"--picture {name}: must be one of {', '.join(PICTURES)}")
    if options.against not in AGAINST:
        raise UserError(f"--against {options.against}: must be one of {', '.join(AGAINST)}")
    output = options.output or folders[0].path / ("growth.png" if name == RUNS else f"{name}.png")
    if output.suffix not in SUFFIXES:
        raise UserError(f"{output}: a picture's name ends in .png, .pdf or .svg")
    if name != RUNS:
        if len(folders) > 1:
            raise UserError(f"--picture {name} shows one run, and {len(folders)} are given: name one folder")
        if options.against != next(iter(AGAINST)):
            raise UserError(f"--against is for --picture {RUNS}: {name} is not drawn against a cost")
        print(draw(name, folders[0], configuration.build(with_overrides(folders[0], [])), output))
        return 0
    from grow_cli.analysis.plot import plot_runs

    for folder in folders:
        if not folder.metrics.exists():
            raise UserError(f"{folder.path} has no metrics.csv yet: nothing to draw")
    print(plot_runs(folders, output, options.against))
    return 0


def explain(options: argparse.Namespace) -> int:
    """Show why each neuron exists: the mistake that it was grown for, before and after, as one HTML page."""
    folder = existing(options.run)
    output = options.output or folder.path / "explain.html"
    if output.suffix not in (".html", ".htm"):
        raise UserError(f"{output}: the page's name ends in .html")
    from grow_cli.analysis.explain import write_page

    print(write_page(folder, configuration.build(with_overrides(folder, [])), output))
    return 0


_COMMANDS = {"eval": evaluate, "resume": resume, "plot": plot, "explain": explain}


def existing(path: Path) -> RunFolder:
    folder = RunFolder(path)
    if not folder.claimed:
        runs = runs_below(path)
        hint = f"did you mean {runs[-1]}?" if runs else "name a folder that `grow train` wrote"
        if len(runs) > 1:
            hint = f"it holds {len(runs)} runs: name one of them, like {runs[0]}"
        raise UserError(f"{path} is not a run folder (it has no .hydra/config.yaml): {hint}")
    return folder


def with_overrides(folder: RunFolder, overrides: list[str]) -> DictConfig:
    """The run's config, typed by the schemas again, with KEY=VALUE overrides."""
    raw = folder.config()
    try:
        typed = configuration.typed(raw)
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise UserError(f"{override}: write KEY=VALUE")
            if key in configuration.GROUP_KEYS:
                raise UserError(f"{override}: a group cannot be exchanged in a trained run; set one of its keys")
            read = (
                OverridesParser.create().parse_override(f"{key}={value}").value()
            )  # as `grow train` does: off is a word
            OmegaConf.update(typed, key, read, force_add=False)
    except HydraException as error:
        raise UserError(
            f"{override} cannot be read: write KEY=VALUE, and quote special characters, like 'key=\"a b\"'"
        ) from error
    except OmegaConfBaseException as error:
        raise UserError(f"{folder.path}: {str(error).splitlines()[0]}") from error
    return typed

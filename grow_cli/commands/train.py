"""`grow train`: compose the config with Hydra, claim a run folder, train."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grow_cli import config as configuration
from grow_cli import console, launched, registry
from grow_cli.analysis.summary import in_a_line
from grow_cli.analysis.summary import show as report
from grow_cli.commands import beginning, local, ray, replaced, slurm
from grow_cli.commands.composition import composed, flags_first, plugins, prepare_hydra, refuse_two_folders, words
from grow_cli.commands.hydra_errors import explain
from grow_cli.commands.jobs import slug
from grow_cli.commands.mistyped import refuse_mistyped
from grow_cli.commands.overrides import with_overrides
from grow_cli.commands.sweep import (
    Outcome,
    Tally,
    conclude,
    objective,
    one_at_a_time,
    refuse_other_config,
)
from grow_cli.errors import Crashed, Interrupted, TrainingFailed, UserError
from grow_cli.files import expanded
from grow_cli.records.folder import InUse, RunFolder
from grow_cli.schema import make_absolute

# what trains the jobs of a sweep when all are composed; without one each is trained as it is composed
_ENGINES = {"local": local.train, "slurm": slurm.train, "ray": ray.train}
# Why the run failed, if it is no sweep (whose jobs are tallied). Not raised inside the job: Hydra would print lines of its own.
_failed: list[UserError | TrainingFailed] = []


def parser() -> console.Parser:
    """The command's arguments, for the help text only: Hydra reads them."""
    parser = console.Parser(
        prog="grow train",
        usage="grow train [-m] [--cfg job] [KEY=VALUE ...]",
        description="Train one run, or with -m a sweep. A config group is chosen by name (method=tiny), a key is set by its path "
        "(optimizer.lr=3e-4).",
        epilog="`grow list` shows all options, `grow list method=tiny` and `grow list stop` their keys. "
        "Examples: grow train method=tiny stop.epochs=20; grow train -m method=tiny,random_width seed=0,1,2",
        add_help=False,
    )
    parser.add_overrides("a key and its value, without spaces around =")
    parser.add_argument("-m", "--multirun", action="store_true", help="a sweep: one run for each of KEY=V1,V2,...")
    parser.add_argument("--cfg", choices=("job",), help="show the composed config with all keys, and train nothing")
    parser.add_argument("-h", "--help", action="store_true", help="show this")
    return parser


def main(arguments: list[str]) -> int:
    """Hydra reads `sys.argv`; its own errors become one sentence."""
    _failed.clear()
    Tally.current = None
    if {"-h", "--help"} & set(arguments):
        print(parser().format_help(), end="")
        return 0
    refuse_mistyped(arguments)
    replaced.refuse(arguments)
    ray.refuse_without_ray(arguments)
    for argument in arguments:
        if {"-m", "--multirun"} & set(arguments) and argument.startswith("run_dir="):
            folder = expanded(argument.removeprefix("run_dir=").strip("'\""))
            if RunFolder(folder).claimed:
                raise UserError(f"{folder} is a run folder: choose another run_dir for the sweep")
    refuse_two_folders(arguments)
    _refuse_ranks(arguments)
    arguments = words(flags_first(arguments))
    if launched.rank():  # the run's folder is rank 0's: what this one writes is thrown away
        with tempfile.TemporaryDirectory(prefix="grow-rank-") as scratch:
            others = [a for a in arguments if not a.startswith(("run_dir=", "hydra.run.dir="))]
            return _launch([*others, f"run_dir={Path(scratch) / 'run'}"])
    return _launch(arguments)


def _launch(arguments: list[str]) -> int:
    prepare_hydra()
    sys.argv = ["grow train", *plugins(), *arguments]
    decorate = hydra.main(version_base="1.3", config_path=str(registry.config_folders()[0]), config_name="train")
    try:
        decorate(_job)()
        if Tally.current and Tally.current.waiting:
            how = Tally.current.waiting[0].config.sweep
            _ENGINES[how.engine](Tally.current.waiting, Tally.current.ended, how)
    except (HydraException, OmegaConfBaseException) as error:
        if Tally.current:
            Tally.current.forget()
        raise UserError(explain(error, arguments)) from error
    except ValueError as error:
        if "Only one of --run" in str(error):
            raise UserError("-m and --cfg cannot be combined: --cfg job shows the config of a single run") from error
        if "Config group override" in str(error):
            raise UserError("a config group cannot be null: leave it out, or choose one of `grow list`") from error
        raise
    except OSError as error:
        if error.filename is None:
            raise
        raise UserError(
            f"{error.filename} cannot be written ({error.strerror}): choose another folder with run_dir=PATH"
        ) from error
    except (Interrupted, KeyboardInterrupt):
        if Tally.current:
            again = f"run the same command with run_dir={Tally.current.sweep} to continue the sweep"
            console.err.print(f"interrupted: {again}", markup=False)
        raise
    except Exception as error:
        if type(error).__module__.split(".")[0] != "joblib":
            raise
        raise TrainingFailed(
            f"a process of the sweep ended ({str(error).splitlines()[0]}): run the same command again with run_dir of the "
            "sweep to continue, with fewer jobs at once if memory ran out"
        ) from error
    finally:
        outcomes: list[Outcome] = Tally.current.collect() if Tally.current else []
    if _failed:
        raise _failed[0]
    if Tally.current:
        conclude(Tally.current, outcomes)
    return 0


def compose(overrides: list[str]) -> configuration.Config:
    """The config of `grow train OVERRIDES...`, for use from Python."""
    return configuration.build(composed(overrides))


def _refuse_ranks(arguments: list[str]) -> None:
    """UserError where each of torchrun's processes would run the whole sweep, or they cannot meet."""
    if launched.world() > 1 and {"-m", "--multirun"} & set(arguments):
        raise UserError(
            f"torchrun began {launched.world()} processes, and a sweep is for one: leave torchrun out, and train "
            "several runs side by side with `grow train -m sweep=local`"
        )
    launched.refuse_no_address()


def _first(given: str | None, otherwise: str) -> str:
    return os.path.expanduser(given) if given else otherwise  # empty: an unset shell variable


# at import: a launcher's worker process imports this module and no more
OmegaConf.register_new_resolver("grow.id", lambda: secrets.token_hex(3), use_cache=True, replace=True)
OmegaConf.register_new_resolver("grow.or", _first, replace=True)
OmegaConf.register_new_resolver("grow.slug", slug, replace=True)


def _job(raw: DictConfig) -> float | None:
    """One run; Hydra calls it once, or once per job of a sweep, maybe in a launcher's worker. Returns the objective."""
    own = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return _sweep_job(raw, own)
    try:
        config = checked(raw)
        from grow_cli.training.ranks import joined  # torch: not before the config is known to be good

        with joined(config) as ranks:
            summary = begin(config, own, _hydra_files(raw), ranks=ranks)
        if not ranks.first:
            return None
        show(own, summary)
        return objective(summary)
    except (UserError, TrainingFailed) as error:
        own.discard_unless_trained()
        _failed.append(type(error)(str(error)))
    except (Interrupted, KeyboardInterrupt):
        own.discard_unless_trained()
        where = f": continue with `grow resume {own.path}`" if own.begun else " before training began"
        if not launched.rank():
            console.err.print(f"interrupted{where}", markup=False)
        raise
    finally:
        own.close()
    return None


def begin(config: configuration.Config, folder: RunFolder, files: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A new run: claim its folder, train, and return the summary. Where training did not begin, nothing is left behind.

    :param files: what `.hydra/` holds; `options` are those of `run.train`
    """
    from grow_cli import run  # imports torch: not before the config is known to be good

    beginning.refuse_own_model(files["overrides"], config.init)
    try:
        folder.create(files)
        return run.train(config, folder, **options)
    except (UserError, TrainingFailed, Interrupted, KeyboardInterrupt):
        folder.discard_unless_trained()
        raise
    finally:
        folder.close()


def go_on(config: configuration.Config, folder: RunFolder, moved: Sequence[str] = (), **options: Any) -> dict[str, Any]:
    """An interrupted run of this config, to its end; returns the summary.

    :param moved: overrides of its limits, which the folder's config has from then on; `options` are those of `run.train`
    """
    from grow_cli import run

    folder.open()
    try:
        if moved:
            folder.extend(with_overrides(folder, moved), moved)
        return run.train(config, folder, resume=folder.holds_a_run, **options)
    finally:
        folder.close()


def _sweep_job(raw: DictConfig, own: RunFolder) -> float | None:
    """A sweep's job: begun, resumed, or skipped if it is finished or another process is at it.

    Errors are tallied, not raised: a failure must not end a sweep.
    """
    tally, folder = Tally.current, own
    assert tally is not None
    try:
        config = checked(raw)
        beginning.refuse_own_model(HydraConfig.get().overrides.task, config.init)
        if config.sweep.engine in _ENGINES:
            local.refuse_search(HydraConfig.get().sweeper._target_)
        with one_at_a_time(own.path.parent):
            folder = tally.folder_of(own.path)
            begun = folder.begun
            if folder.path != own.path:
                own.discard_unless_trained()
            if begun:
                refuse_other_config(folder, raw)
                if folder.read_summary().get("status") != "finished":
                    folder.open()
            else:
                folder.create(_hydra_files(raw))
        summary: dict[str, Any] = folder.read_summary()
        if summary.get("status") == "failed":
            raise TrainingFailed(
                f"failed before ({summary.get('error')}) and is not tried again: remove {folder.path} to train it again"
            )
        if summary.get("status") == "finished":
            tally.note(folder.path.name, "skipped")
        elif config.sweep.engine in _ENGINES:
            tally.wait(folder, config, begun)
            return None
        else:
            tally.begins()
            summary = _train(config, folder, resume=begun)
            tally.note(folder.path.name, "resumed" if begun else "trained")
        return objective(summary)
    except InUse:
        if config.sweep.engine == "slurm":  # it may be a job of this sweep that Slurm runs already
            tally.wait(folder, config, folder.begun)
            return None
        console.err.print(f"{folder.path.name}: already running in another process; skipped", markup=False)
        tally.note(folder.path.name, "busy")
    except (UserError, TrainingFailed) as error:
        folder.discard_unless_trained()
        console.error(f"{folder.path.name}: {error}")
        # its words only: the traceback would keep the run, and its memory, alive for the rest of the sweep
        tally.note(folder.path.name, "crashed" if isinstance(error, Crashed) else "failed", str(error))
    except (Interrupted, KeyboardInterrupt):
        folder.discard_unless_trained()
        if tally.here:
            raise
        # the launcher's own way to stop is that its first process stops; this one is told alone only by a scheduler
        tally.note(folder.path.name, "interrupted", "interrupted: run the same command again to continue")
    finally:
        folder.close()
    return None


def checked(raw: DictConfig, **parts: Any) -> configuration.Config:
    """`built`, its parts checked against each other; UserError, and warnings."""
    config = built(raw, **parts)
    for sentence in configuration.check_run(config):
        console.warn(sentence)
    return config


def built(raw: DictConfig, **parts: Any) -> configuration.Config:
    """The config of a run that is about to begin; `raw` becomes what its folder is to hold. UserError where it cannot be.

    :param parts: options that take the place of the composed ones, which only a Python program can give (its own net)
    """
    try:
        located(raw)
        return replace(configuration.build(raw), **parts)
    except OmegaConfBaseException as error:  # of an interpolation
        raise UserError(str(error).splitlines()[0]) from error


def located(raw: DictConfig) -> None:
    """The net to begin with, and every path, as they hold wherever the config is read."""
    beginning.take_model(raw)
    make_absolute(raw)


def _hydra_files(raw: DictConfig) -> dict[str, Any]:
    of_hydra = HydraConfig.instance().cfg  # {"hydra": ...}; a copy would take longer than all else about a job's folder
    return {"config": raw, "hydra": of_hydra, "overrides": HydraConfig.get().overrides.task}


def _train(config: configuration.Config, folder: RunFolder, *, resume: bool = False) -> dict[str, Any]:
    from grow_cli import run  # imports torch: not before the config is known to be good

    summary = run.train(config, folder, resume=resume)
    with console.whatever_happens_to_the_terminal():
        console.line(in_a_line(folder, summary))
    return summary


def show(folder: RunFolder, summary: dict[str, Any]) -> None:
    """Print the result of a run, even if the terminal fails."""
    with console.whatever_happens_to_the_terminal():
        report(folder, summary)

"""`sweep=local`: a sweep's jobs side by side on this machine, each in a process of its own that is begun again if it dies.

Hydra composes the jobs, and their folders are claimed, one after the other; then each is trained by `grow resume`, which begins
a claimed run that has no checkpoint yet. What a job prints is in `log.txt` in its folder.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grow_cli import console
from grow_cli.analysis.listed import locked
from grow_cli.commands import children
from grow_cli.commands.board import Board
from grow_cli.errors import UserError
from grow_cli.files import append_text
from grow_cli.records.folder import RunFolder

if TYPE_CHECKING:
    from grow_cli.commands.sweep import Job
    from grow_cli.config import Sweep

LOG = "log.txt"


def train(jobs: Sequence[Job], note: Callable[[Job, str, str], None], config: Sweep) -> None:
    """Train all jobs; `note` gets the outcome of each (a key of COUNTED), and the reason if the outcome does not say it."""
    of = {str(job.folder.path): job for job in jobs}
    gpus = _gpus(jobs)
    at_once = min(len(jobs), config.jobs or len(gpus) * config.slots_per_gpu or _processors(jobs))
    board = Board(jobs, at_once)
    closed = closing(board, note, config.retries)

    def done(ended: children.Ended) -> bool:
        job = of[ended.arguments[1]]
        keep(job.folder.path, ended)
        return closed(job, *outcome(job.folder, ended, resumed=job.begun))

    with board:
        children.run(
            [["resume", path] for path in of],
            at_once,
            done,
            environment=lambda slot: {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {},
            begins=lambda arguments: board.begins(arguments[1]),
        )


def closing(board: Board, note: Callable[[Job, str, str], None], retries: int) -> Callable[[Job, str, str], bool]:
    """What is called with what became of a job, and why: shows and notes it; True where the job is to go on again."""
    tries: Counter[int] = Counter()

    def closed(job: Job, became: str, sentence: str) -> bool:
        tries[job.number] += 1
        again = became == "crashed" and tries[job.number] <= retries
        board.ended(job, "again" if again else became, sentence)
        if not again:
            note(job, became, sentence)
        return again

    return closed


def refuse_search(sweeper: str) -> None:
    """UserError where what begins the jobs waits for their scores, which come when all have ended."""
    if not sweeper.endswith(".BasicSweeper"):
        raise UserError(
            "sweep.engine=local and slurm train all jobs of a sweep at its end, and a search needs each job's score at once: "
            "leave it out, or use `grow tune`"
        )


def outcome(folder: RunFolder, ended: children.Ended, *, resumed: bool) -> tuple[str, str]:
    """What became of a job (a key of COUNTED), and why where that is not plain."""
    status = folder.read_summary().get("status")
    if status == "finished":  # a job that another process has finished meanwhile, too
        return ("resumed" if resumed else "trained"), ""
    words = [line for line in ended.err.strip().splitlines() if line.startswith(("error: ", "interrupted"))]
    sentence = words[-1].removeprefix("error: ") if words else ended.err.strip()[-300:]
    if ended.code < 0:
        return "crashed", f"its process was ended by {signal.Signals(-ended.code).name}"
    if ended.code > 128:
        return "interrupted", sentence
    if locked(folder):
        return "busy", sentence
    return ("crashed" if status == "crashed" or (ended.code == 1 and status != "failed") else "failed"), sentence


def keep(folder: Path, ended: children.Ended) -> None:
    """Add what a job's process printed to the log in its folder."""
    text = "".join(part if part.endswith("\n") else f"{part}\n" for part in (ended.out, ended.err) if part)
    try:
        append_text(folder / LOG, text)
    except OSError as error:
        console.warn(f"{folder / LOG} cannot be written ({error.strerror})")


def _processors(jobs: Sequence[Job]) -> int:
    threads = max(job.config.threads or 1 for job in jobs)
    return max(1, len(os.sched_getaffinity(0)) // threads)


def _gpus(jobs: Sequence[Job]) -> list[str]:
    """Those that the jobs are spread over, as CUDA_VISIBLE_DEVICES names them; none where one is named, or none is wanted."""
    if not all(job.config.device in ("auto", "cuda") for job in jobs):
        return []
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(i) for i in range(torch.cuda.device_count())]

"""Several processes that train one run: what they add up, and what rank 0 tells the others.

Every rank draws the same global batch and takes its part. Whatever is measured, decided or written is rank 0's alone.
`torch.distributed` is imported only where there are several.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grow_cli import launched
from grow_cli.errors import Crashed, Interrupted, UserError

if TYPE_CHECKING:
    from grow_cli.config import Config
    from grow_cli.training.session import Session

# the others wait for rank 0 as long as it evaluates or grows; one that died is noticed at once, as its connection is lost
_PATIENCE = timedelta(days=7)


@dataclass
class Ranks:
    """This process among those of its run."""

    rank: int = 0
    world: int = 1
    ending: bool = False
    """Whether all of them know that the run ends here, and wait for each other: a launcher kills the rest after the first."""
    heard: int | None = None
    """The signal that one of them has got, once all know of it: after the same step, so that all stop there."""

    @property
    def first(self) -> bool:
        """Whether this one measures, decides and writes."""
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """This rank's samples of a global batch: (n, ...) → every world-th of them."""
        return batch[self.rank :: self.world]

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place; the same bits on each."""
        import torch.distributed as dist

        with _peers():
            dist.all_reduce(tensor)
        return tensor

    def hear(self, signal_number: int | None) -> None:
        """Tell the others of the signal that has arrived here, if one has; called by all of them after the same step."""
        self.heard = self._largest([signal_number or 0])[0] or None
        self.ending = self.ending or self.heard is not None

    def _largest(self, numbers: list[int]) -> list[int]:
        import torch.distributed as dist

        told = torch.tensor(numbers)
        with _peers():
            dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return [int(n) for n in told]

    def refuse_different(self, tensors: Iterable[Tensor]) -> None:
        """Crashed unless every rank has the same bits in them."""
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        mine = int.from_bytes(digest.digest()[:7], "big")
        largest, smallest = self._largest([mine, -mine])
        if largest != -smallest:
            raise Crashed(
                "the processes of this run no longer have the same parameters: run all of them on the same machine type and "
                "versions, and go on with `grow resume RUN`"
            )

    def told(self, state: Any = None) -> Any:
        """Rank 0's state (plain data and tensors), on the CPU, on every rank."""
        import torch.distributed as dist

        written = io.BytesIO()
        if self.first:
            torch.save(dict(state) if isinstance(state, dict) else state, written)
        size = torch.tensor([written.tell()])
        with _peers():
            dist.broadcast(size, 0)
            data = torch.empty(int(size), dtype=torch.uint8)
            if self.first:
                data = torch.frombuffer(bytearray(written.getvalue()), dtype=torch.uint8)
            dist.broadcast(data, 0)
        if self.first:
            return state
        return torch.load(io.BytesIO(data.numpy().tobytes()), map_location="cpu", weights_only=True)

    def led(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What rank 0's work gives, on every rank; where it fails, or is interrupted, all of them end."""
        told: dict[str, Any]
        if self.first:
            try:
                found = work()
            except BaseException as error:
                self.ending = True
                with contextlib.suppress(Crashed):
                    self.told({"signal": error.signal_number if isinstance(error, Interrupted) else 0})
                raise
            told = self.told({"found": found})
        else:
            told = self.told()
        if "signal" in told:
            self.ending = True
            raise Interrupted(told["signal"]) if told["signal"] else Crashed("the first process of this run has ended")
        return dict(told["found"])

    def wait(self) -> None:
        """For all others."""
        self._largest([0])


ALONE = Ranks()


@contextlib.contextmanager
def joined(config: Config) -> Iterator[Ranks]:
    """The ranks that the environment tells of, connected inside the block; ALONE without a launcher.

    None of them enters before all have come this far. UserError where several cannot train this run.
    """
    if launched.world() == 1:
        yield ALONE
        return
    import torch.distributed as dist

    launched.refuse_no_address()
    refuse_config(config, launched.world())
    ranks = Ranks(launched.rank(), launched.world())
    with _peers():
        dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield ranks
        ranks.wait()  # rank 0 measures and writes last
    except BaseException:
        if ranks.ending:
            with contextlib.suppress(Crashed):
                ranks.wait()
        raise
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """Crashed where another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        raise Crashed(
            "another process of this run has ended, or cannot be reached: start all of them again with `grow resume RUN`"
        ) from error


def refuse_config(config: Config, world: int) -> None:
    """UserError where several processes were not shown to train as one does, as far as the config tells."""
    if world == 1:
        return
    for part in (config.method, config.model, config.optimizer):
        if not part.on_several_ranks:
            raise UserError(
                f"{part.group_name}={part.name} was not shown to train in {world} processes as in one: leave torchrun out"
            )
    one_only = {
        "compile=true": config.compile,
        "stop.seconds": config.stop.seconds is not None,
        "precision=bf16": config.precision == "bf16",
    }
    for key, asked in one_only.items():
        if asked:
            raise UserError(f"{key} was not shown to work in {world} processes: leave it out, or leave torchrun out")


def refuse_built(session: Session, world: int) -> None:
    """The same, as far as the net and its data tell."""
    what = ""
    if not session.method.trains_by_gradient:
        what = "a method without gradient steps"
    elif session.device.type != "cpu":
        what = f"device={session.device.type}"
    if what:
        raise UserError(
            f"{what} was not shown to train the same in {world} processes as in one: leave it, or torchrun, out"
        )
    if session.batches.batch_size < world:
        raise UserError(
            f"batch_size={session.batches.batch_size} has less than a sample for each of {world} processes: raise it"
        )

"""Where and what to grow: the interface of every method."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from grow_cli.registry import Part

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Event, Notes
    from grow_cli.surgery.proposal import Proposal
    from grow_cli.theory.expansion import Scored


@dataclass(frozen=True)
class WarmUp:
    """New parameters are first trained alone, everything else frozen."""

    steps: int
    rate: float
    """As a multiple of the base rate."""
    thaw: int = 0
    """Steps after these over which the others follow, nearest first."""


@dataclass(frozen=True)
class Settling:
    """What a method wants done after an event, before training continues."""

    batch_size: int | None = None
    """The training batch from now on; None: as it is."""
    warm_up: WarmUp | None = None


M = TypeVar("M", bound="Method")


@dataclass
class Method(Part):
    """Base of every method. The shared code (`training.event`) measures, charges and logs what `add` adds."""

    group_name: ClassVar[str] = "method"
    replayable_regularizer: ClassVar[bool] = False
    """Whether its `regularizer` does the same operations on the same tensors at each step between two events, so that the step
    can be replayed as a CUDA graph."""

    kind: ClassVar[str] = "none"
    """`depth`, `width`, `heads`, `removal` or `none`."""
    preserves_function: ClassVar[bool] = False
    """Then a relative change of the outputs above 1e-4 at an event is an error."""
    needs_trajectory: ClassVar[bool] = False
    """Whether the frontier's history must be recorded."""
    grows: ClassVar[bool] = True
    """False: whatever the trigger says, nothing does."""
    adds: ClassVar[bool] = True
    """Whether what it does makes the net larger, so that the limits of its size hold."""
    heeds_until: ClassVar[bool] = True
    """Whether `growth.until` holds for it."""
    no_score: ClassVar[str] = ""
    """Why a natural expansion score says nothing of what is added; empty where it does."""

    @property
    def trains_by_gradient(self) -> bool:
        """False: no optimizer step is ever taken, only additions and best updates (TINY, D.4's last paragraph); minibatches
        are then only measured."""
        return True

    def build(self, model: GrowableModel) -> Method:
        """The method of one run, for a model that has not grown yet; `check` has been asked."""
        return self.begin()

    def as_(self, kind: type[M]) -> M:
        """Another method with the keys that it shares with this one."""
        return kind(**{f.name: getattr(self, f.name) for f in fields(kind)})

    def check(self, model: GrowableModel) -> list[str]:
        """UserError if this method cannot grow this model, asked of the net itself; returns warnings."""
        return []

    def check_start(self, now: Moment) -> list[str]:
        """UserError if this run's first event could not be; asked once data and net are there, before the first step."""
        return []

    def closed(self, now: Moment) -> str:
        """Why this method can add nothing more to the present net, whatever the trigger says; empty while it can."""
        return ""

    def frontier(self, model: GrowableModel) -> nn.Module:
        """The layer whose trajectory is recorded (Alether's ℓ_front)."""
        return model.frontier()

    def candidates(self, now: Moment, notes: Notes) -> list[Proposal]:
        """What it would add to the present net, each proposal as if it were the only one; nothing is changed."""
        return []

    def add(self, now: Moment, event: Event) -> None:
        """Add, by `event.apply`; `event.nothing` says why not."""
        for proposal in self.candidates(now, event):
            event.apply(proposal)

    def scored(self, now: Moment, samples: int, notes: Notes) -> list[Scored]:
        """`candidates`, each with its natural expansion score on `samples` samples."""
        from grow_cli.scoring import score_proposals

        return score_proposals(now, self.candidates(now, notes), samples)

    def settle(self, now: Moment, flops_per_sample: int) -> Settling:
        """After surgery: what is wanted before training continues, the net's forward FLOPs being these now."""
        return Settling()

    def slack(self, score: float) -> float | None:
        """By how much validation may be worse than this, its score before an event, without that being taken back
        (`growth.rollback`); None: it must be better."""
        return None

    def rolled_back(self, now: Moment, before: dict[str, Any]) -> None:
        """The last growth did not help and is about to be undone (`growth.rollback`): `before` is the state before it."""
        self.load_state_dict(before)

    def keep(self, now: Moment, folder: Path) -> None:
        """Bring files of its own in the run folder up to date: after an event, when a run is resumed, and at the end."""

    def conclude(self, now: Moment) -> dict[str, Any]:
        """Training is over: fields of its own for summary.json."""
        return {}

    def trained(self, model: GrowableModel) -> list[nn.Parameter] | None:
        """The parameters that a step trains, where the method leaves the others as they are; None: all."""
        return None

    def regularizer(self, now: Moment) -> Tensor | None:
        """A term () added to the loss of every step, or None."""
        return None

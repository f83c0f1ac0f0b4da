"""Where and what to grow: the interface of every method."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from grow_cli.registry import Option

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from grow_cli.methods.expanding.readings import Scored
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.surgery.proposal import DepthProposal, WidthProposal
    from grow_cli.training.state import Run


@dataclass
class Plan:
    """What a method wants to add now; without proposals, `reason` says why not.

    A generator of proposals may fill in the other fields while it runs.
    """

    proposals: Iterable[DepthProposal | WidthProposal] = ()
    """Applied as they come: a generator sees the net with those before applied (sites must then be asked for anew)."""
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    """For the growth log, also where nothing is proposed: spectra, thresholds, amplitudes."""
    flops: int = 0
    """What finding the proposals cost."""


class Method:
    """Collect → theory → surgery. The shared code (`training.growth`) measures, applies and logs."""

    kind: ClassVar[str] = "none"
    """`depth`, `width` or `none`."""
    preserves_function: ClassVar[bool] = False
    """Then a relative change of the outputs above 1e-4 at an event is an error."""
    trains_by_gradient: bool = True
    """False: no optimizer step is ever taken, only additions and best updates (TINY, D.4's last paragraph); minibatches are
    then only measured.
    """

    def check(self, model: GrowableModel) -> None:
        """UserError if this method cannot grow this model."""

    def closed(self, run: Run) -> str:
        """Why this method can add nothing more to the present net, whatever the trigger says; empty while it can."""
        return ""

    def frontier(self, model: GrowableModel) -> nn.Module:
        """The layer whose trajectory is recorded (Alether's ℓ_front): the last hidden one, or all of a linear net."""
        stacks = [site.stack for site in model.depth_sites() if len(site.stack)]
        return stacks[-1][-1] if stacks else model

    def propose(self, run: Run) -> Plan:
        """What to add now."""
        return Plan(reason="this method never grows")

    def candidates(self, run: Run) -> Plan:
        """What it would add to the present net, each proposal as if it were the only one; nothing is changed."""
        return self.propose(run)

    def scored(self, run: Run, samples: int) -> tuple[list[Scored], int]:
        """`candidates` with the natural expansion score of each on so many samples, and the FLOPs of finding them."""
        from grow_cli.methods.expanding.readings import score_proposals

        plan = self.candidates(run)
        return score_proposals(run, list(plan.proposals), samples), plan.flops

    def settle(self, run: Run, new: list[nn.Parameter], flops_per_sample: int) -> list[dict[str, Any]]:
        """After surgery, before training goes on (a warm-up, say): the phases, for the growth log.

        Each phase is a dict with `phase`, `seconds` and, where it trained, `steps`, `flops`.
        """
        return []

    def rolled_back(self, run: Run, before: dict[str, Any]) -> None:
        """Its last growth did not help and is undone next (`growth.rollback`): `before` is its own state of before."""
        self.load_state_dict(before)

    def keep(self, run: Run, folder: Path) -> None:
        """Bring files of its own in the run folder up to date: after an event, when a run is resumed, and at the end."""

    def conclude(self, run: Run) -> dict[str, Any]:
        """Training is over: fields of its own for summary.json."""
        return {}

    def regularizer(self, run: Run) -> Tensor | None:
        """A term () added to the loss of every step, or None."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Plain data that `load_state_dict` continues from."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""


@dataclass
class MethodOption(Option):
    """Base of every method's schema."""

    needs_trajectory: ClassVar[bool] = False
    """Whether the frontier's history must be recorded."""
    grows: ClassVar[bool] = True
    """False: whatever the trigger says, nothing does."""
    heeds_until: ClassVar[bool] = True
    """Whether `growth.until` holds for it."""
    no_score: ClassVar[str] = ""
    """Why a natural expansion score says nothing of what is added; empty where it does."""

    def build(self, model: GrowableModel) -> Method:
        """The method, for a model that has not grown yet."""
        raise NotImplementedError

"""The read-only view of a run that methods and triggers get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from grow_cli.errors import Interrupted

if TYPE_CHECKING:
    import torch

    from grow_cli.config import Config
    from grow_cli.data.tensors import Data
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.tasks import Loss
    from grow_cli.theory.expansion import Scored
    from grow_cli.theory.history import History


@dataclass
class Progress:
    """How far a run has come; plain numbers, as they stand in the checkpoint."""

    step: int = 0
    samples: int = 0
    epoch: float = 0.0
    seconds: float = 0.0
    """Wall time of training and growth; evaluation, checkpoints and compiling left out."""
    compile_seconds: float = 0.0
    """Wall time of compiling the step (`compile=true`)."""
    growth_seconds: float = 0.0
    flops: int = 0
    """Training and growth; forward + backward = 3 × forward (1 × in steps without gradient); a multiply-add is two."""
    growth_flops: int = 0
    growth_steps: int = 0
    """Optimizer steps inside growth events (warm-ups), which `step`, `samples` and `epoch` leave out."""
    anchor_step: int = 0
    """Where the batch size last changed: from there on epochs are linear in steps."""
    anchor_epoch: float = 0.0
    events: int = 0
    """Growth events that added something."""
    events_without_gain: int = 0
    """Of those, since the best validation score."""
    undone: int = 0
    """Of those, taken back (`growth.rollback`)."""
    firings: int = 0
    """Lines of the growth log: events, and firings that added nothing."""
    evaluations: int = 0
    threads: int = 1
    """CPU threads, chosen at the start: the last bit depends on them."""
    snapshots: int = 0
    restarted_at: float = 0.0
    """Budget progress at the last restart of the schedule."""
    restart_step: int = 0
    best_val_loss: float = float("inf")
    best_val_score: float = float("-inf")
    """The task's score times its direction: more is better."""
    loss_at_best: float = float("inf")
    """The validation loss where the score was best: ties are broken by it."""
    best_step: int = 0
    train_score: float = float("-inf")
    """Of the whole training split at the last evaluation, where `stop.train_score` asks for it."""
    evaluations_without_gain: int = 0
    growth_pending: bool = False
    """The trigger fired and the growth is not done yet: a resumed run does it first."""
    readings: dict[str, float] = field(default_factory=dict)
    """The trigger's, at the last evaluation."""

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for f in fields(self):  # one that an older checkpoint lacks had its default's meaning then
            setattr(self, f.name, state.get(f.name, getattr(self, f.name)))


@dataclass(frozen=True)
class Moment:
    """A run as it is now. Nothing of it may be changed: what a method adds goes through `Event.apply`."""

    config: Config
    device: torch.device
    data: Data
    model: GrowableModel
    loss: Loss
    """(outputs, targets) → mean loss of the batch, label smoothing included."""
    batch_size: int
    """Of training, now."""
    steps_per_epoch: int
    progress: Progress
    used: float = 0.0
    """Fraction of the budget, by whichever limit is nearer."""
    history: History | None = None
    """The frontier's trajectory, where trigger or method asks for it (`needs_trajectory`)."""
    measured: dict[str, float] = field(default_factory=dict)
    """The last evaluation: train_loss, val_loss, val_accuracy or val_r2, ..."""
    closed: str = ""
    """Why nothing can grow any more, as of the last evaluation; empty while something can."""
    scored: Callable[[int], list[Scored]] = lambda samples: []
    """What the method would add now, with its natural expansion score on so many samples; its cost is charged to growth."""
    interrupted: Callable[[], int | None] = lambda: None
    """The number of the signal that asks for a stop, if one has arrived."""

    def stop_if_interrupted(self) -> None:
        """For long work inside a growth event: it is begun anew on resume."""
        signal_number = self.interrupted()
        if signal_number is not None:
            raise Interrupted(signal_number)

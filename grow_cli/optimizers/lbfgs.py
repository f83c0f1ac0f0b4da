"""L-BFGS on all training samples at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.optimizers.base import OptimizerOption
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from grow_cli.config import Config
    from grow_cli.moment import Moment


@option("optimizer", "lbfgs")
@dataclass
class LBFGS(OptimizerOption):
    """torch's L-BFGS with a strong Wolfe line search, full batch, whatever the scale of the loss.

    A step of the run is `iterations` of it; its memory is of the whole net, and starts anew where the net grows.
    """

    lr: float = key(1.0, above=0)
    """The length that the line search tries first."""
    weight_decay: float = key(0.0, at_least=0, at_most=0, why="L-BFGS has no decay of its own")
    iterations: int = key(20, at_least=1, at_most=10_000)
    """Iterations in a step of the run; each evaluates the loss once or a few times, and every evaluation counts as FLOPs."""
    history: int = key(50, at_least=1, at_most=1000)
    """Pairs of steps and gradients' changes that are remembered."""

    def check_run(self, config: Config) -> list[str]:
        growth = config.growth
        for name, wrong, remedy in (
            ("compile", config.compile, "compile=false"),
            ("clip_norm", config.clip_norm is not None, "clip_norm=null"),
            ("growth.optimizer_state", growth.optimizer_state == "age", "growth.optimizer_state=reset"),
            ("growth.lr_factor", growth.lr_factor != 1, "growth.lr_factor=1"),
            ("growth.lr_warmup", growth.lr_warmup != 0, "growth.lr_warmup=0"),
            ("dataset.crop", config.dataset.crop != 0, "dataset.crop=0"),
            ("dataset.flip", config.dataset.flip, "dataset.flip=false"),
        ):
            if wrong:
                raise UserError(
                    f"{name} has no meaning for optimizer=lbfgs, whose line search needs one and the same loss and no rates: "
                    f"set {remedy}, or another optimizer"
                )
        if config.precision == "bf16":
            raise UserError(
                "precision=bf16 is too coarse for optimizer=lbfgs's line search: set precision=fp32 or fp64"
            )
        schedule = config.schedule
        if schedule.name == "constant" and not schedule.warmup:
            return []
        return [
            f"schedule={schedule.name} is ignored: optimizer=lbfgs finds the length of each step itself "
            "(schedule=constant schedule.warmup=0 says so)"
        ]

    def check_start(self, now: Moment) -> None:
        from torch import nn

        samples = len(now.data.train)
        if now.batch_size < samples:
            raise UserError(
                f"batch_size={now.batch_size}: optimizer=lbfgs takes all {samples:,} training samples in each step, for its line "
                f"search needs one and the same loss: set batch_size={samples} or more"
            )
        if any(isinstance(module, nn.Dropout) and module.p for module in now.model.modules()):
            raise UserError(
                "optimizer=lbfgs needs one and the same loss at each evaluation, which dropout redraws: set model.dropout=0"
            )

    def make(self, groups: list[dict[str, Any]], model: nn.Module) -> Optimizer:
        from grow_cli.optimizers.modules.lbfgs import ScaleFreeLBFGS

        return ScaleFreeLBFGS(groups, lr=self.lr, iterations=self.iterations, history=self.history)

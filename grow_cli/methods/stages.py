"""Stages: where a regression is limited by precision, the next net is fitted to what the ones before it left.

Wang & Lai (2023, arXiv:2307.08934) claim that nets trained one after the other reach the machine's precision where a single one
stalls. Each is fitted to the residual of the sum of those before it, divided by its root mean square, and its first layer starts
multiplied by the residual's frequency, so that the new net meets a problem of the size 1 that turns about as fast as it does. The
earlier nets stay as they are. They read the frequency from a spectrum; here it is a ratio of mean squares, for points that lie
anyhow and for any number of variables (`theory.residual`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from grow_cli.errors import UserError
from grow_cli.keys import key
from grow_cli.methods.base import Method
from grow_cli.registry import option

if TYPE_CHECKING:
    from torch import Tensor, nn

    from grow_cli.config import Config
    from grow_cli.models.modules.network import GrowableModel
    from grow_cli.models.modules.stages import Stages as StagesNet
    from grow_cli.moment import Moment
    from grow_cli.surgery.event import Notes
    from grow_cli.surgery.proposal import Proposal


@option("method", "stages")
@dataclass
class Stages(Method):
    """A new net for what is left, scaled to its magnitude and frequency; it starts silent, and alone is trained from then on."""

    on_several_ranks = True

    kind = "depth"
    preserves_function = True
    no_score = "a new stage starts silent, and has the score 0"

    frequency: float = key(1.0, above=0, tune=(0.25, 4.0))
    """The new stage's frequency, as a multiple of the residual's."""
    samples: int = key(4096, at_least=10, at_most=10**6)
    """Training samples from which the residual's frequency is taken."""

    def check_run(self, config: Config) -> list[str]:
        if config.dataset.language:
            raise UserError(
                f"method=stages fits what is left of a regression, and dataset={config.dataset.name} is text: choose "
                "another method"
            )
        return []

    def check(self, model: GrowableModel) -> list[str]:
        from grow_cli.models.modules.stages import Stages as StagesNet

        if not isinstance(model, StagesNet):
            raise UserError(f"method=stages adds nets to a sum, which model={model.name} is not: use model=stages")
        return []

    def check_start(self, now: Moment) -> list[str]:
        if now.data.spec.task != "regression":
            raise UserError(
                f"method=stages fits what is left of a regression, and dataset={now.data.spec.name} is for "
                f"{now.data.spec.task}: choose another method"
            )
        return []

    def trained(self, model: GrowableModel) -> list[nn.Parameter]:
        """The last stage's."""
        return list(cast("StagesNet", model).last.parameters())

    def candidates(self, now: Moment, notes: Notes) -> list[Proposal]:
        from grow_cli.surgery.proposal import DepthProposal
        from grow_cli.theory.residual import frequency_of, magnitudes_of

        x, left = _left(now)
        magnitudes = magnitudes_of(left)
        if magnitudes is None:
            notes.nothing("nothing is left: the outputs are the targets")
            return []
        frequency = self.frequency * frequency_of(x[: self.samples], left[: self.samples])
        site = now.model.depth_sites()[-1]
        # drawn like any new stage, from the growth stream, and then silent
        block = site.make_block()
        block.identity_()
        state = block.state_dict() | {"magnitude.factor": magnitudes}
        # bias and all: its units turn so much faster, where they turned before
        state |= {name: max(1.0, frequency) * state[name] for name in ("maps.0.weight", "maps.0.bias")}
        details = {"site": site.name, "magnitude": magnitudes.tolist(), "frequency": frequency}
        return [DepthProposal(site, state, details)]


def _left(now: Moment) -> tuple[Tensor, Tensor]:
    """Inputs (n, d), as the net takes them, and targets less outputs (n, k), of the training samples."""
    import torch

    from grow_cli.surgery.measure import evaluation_mode

    train, size = now.data.train, now.config.evaluate.batch_size
    x = torch.cat([now.data.prepare(part) for part in train.x.split(size)])
    with evaluation_mode(now.model):
        outputs = torch.cat([now.model(part) for part in x.split(size)])
    return x.flatten(1), train.y - outputs

"""A growth event in progress: what a method adds, and what it logs about the reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from grow_cli.surgery.apply import apply
from grow_cli.surgery.proposal import Proposal


@dataclass
class Notes:
    """What a method notes while it looks for proposals, for the growth log and the accounts."""

    details: dict[str, Any] = field(default_factory=dict)
    """For the growth log: spectra, thresholds, amplitudes."""
    flops: int = 0
    """What finding the proposals cost beside torch's operators, which are counted as they run (`surgery.flops`)."""
    reasons: list[str] = field(default_factory=list)
    """Why nothing is added, or not at some site."""

    def nothing(self, why: str, *, site: str = "", **details: Any) -> None:
        """Note why nothing is added, at all or at this site."""
        self.reasons.append(f"{site}: {why}" if site else why)
        if site:
            self.details.setdefault("nothing_added", []).append({"site": site, **details, "reason": why})


@dataclass
class Event(Notes):
    """Changes the net and its optimizer, proposal by proposal."""

    model: nn.Module = field(kw_only=True)
    optimizer: Optimizer | None = field(kw_only=True)
    optimizer_state: str = field(kw_only=True, default="carry")
    """What becomes of the optimizer's memory: `carry`, `age` or `reset`."""
    lr_factor: float = field(kw_only=True, default=1.0)
    """Of the rate of what is added."""
    lr_warmup: int = field(kw_only=True, default=0)
    """Steps over which that rate rises."""
    applied: list[Proposal] = field(default_factory=list)

    def apply(self, proposal: Proposal) -> None:
        """Apply a proposal. Ask for sites and parameters again afterwards."""
        apply(
            proposal,
            self.model,
            self.optimizer,
            optimizer_state=self.optimizer_state,
            lr_factor=self.lr_factor,
            lr_warmup=self.lr_warmup,
        )
        self.applied.append(proposal)

"""What a width method would do at one site."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grow_cli.models.modules.sites import WidthSite
    from grow_cli.surgery.proposal import WidthProposal

# the budget of units or parameters is used up
NO_ROOM = "growth.max_units, max_parameters or max_total_units leaves no room"


@dataclass
class Offer:
    """What a method would do at one site."""

    site: WidthSite
    proposal: WidthProposal | None = None
    reason: str = ""
    """Why no unit would be added."""
    gain: float = 0.0
    """How much it is worth there; what `where=best` compares."""
    details: dict[str, Any] = field(default_factory=dict)
    """For the growth log: of the proposal, or of the search that ended without one."""

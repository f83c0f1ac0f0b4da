"""The keys of SENN."""

from __future__ import annotations

from dataclasses import dataclass

from grow_cli.errors import check
from grow_cli.keys import key
from grow_cli.methods.base import Method


@dataclass
class Settings(Method):
    """Those of appendix C; the numbers of proposals are a CPU's."""

    on_several_ranks = True

    tau: float = key(1.03, above=1, why="additions might never end otherwise (Theorem 1)")
    """Expansion threshold: an addition must raise its layer's score by more than the fraction tau - 1."""
    alpha: float = key(0.0025, at_least=0)
    """Stopping criterion: by more than so much of λ = E‖∂L/∂outputs‖², too."""
    width: bool = True
    """Add units."""
    depth: bool = True
    """Insert layers, at most one a visit."""
    layer_every: int = key(0, at_least=0, unit="steps")
    """Fewest steps from one new layer to the next, beside the one a visit."""
    layer_penalty: float = key(60, above=0)
    """By which a layer's gain is divided when it is compared: about the units that it stands for."""
    widest_layer: int = key(128, at_least=1)
    """Layers are not inserted where they would have more units: they are as wide as what passes there."""
    search: str = key("ascent", one_of=("ascent", "langevin"))
    """`ascent`: monotone gradient ascent, the best is taken; `langevin`: Metropolis-adjusted Langevin, one is drawn."""
    proposals: int = key(300, at_least=1, at_most=10**5)
    """New units tried at a site."""
    layer_proposals: int = key(30, at_least=1, at_most=10**5)
    """New layers tried at a site."""
    steps: int = key(300, at_least=1, at_most=10**5)
    """Of the search; a tenth of it after each addition."""
    step: float = key(0.3, above=0)
    """Its first step."""
    temperature: float = key(1, above=0)
    """Of the Langevin sampler, against Δη' summed over the samples (10 in the paper, whose unit is not known)."""
    samples: int = key(1024, at_least=2)
    """On which proposals are optimised."""
    held_out: int = key(1024, at_least=2, why="proposals must be judged on samples that they were not optimised on")
    """Others, on which they are judged; with fewer training samples both shrink in proportion."""
    judged: str = key("cross_fitted", one_of=("cross_fitted", "refitted"))
    """`cross_fitted`: the weights on the new activations are those that were best where these were optimised, so that noise
    gains less than nothing; `refitted` (the paper's): those that are best on the held-out samples themselves."""
    residual: str = key("layer", one_of=("layer", "network"))
    """`layer` (the paper's): what the layer's own weights cannot reach; `network` (the authors' code): nor the whole net."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.width or self.depth, "method.width=false and method.depth=false: one of them must be true")

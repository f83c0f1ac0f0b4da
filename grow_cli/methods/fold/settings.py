"""The keys of Fold."""

from __future__ import annotations

from dataclasses import dataclass

from grow_cli.keys import key
from grow_cli.methods.base import Method


@dataclass
class Settings(Method):
    """Algorithm 1, with its choices."""

    on_several_ranks = True

    cluster: str = key("kmeans", one_of=("kmeans", "hdbscan"))
    """`kmeans`, its number of clusters that with the largest silhouette, or `hdbscan`."""
    space: str = key("input", one_of=("input", "feature"))
    """Where mistakes are clustered: `input`, or `feature`, the hidden layer's activations."""
    weight: str = key("count", one_of=("count", "severity"))
    """What the largest cluster is: the one with most mistakes (`count`), or with the largest sum of losses (`severity`)."""
    max_clusters: int = key(10, at_least=2)
    """k-means: no more clusters than so many."""
    max_mistakes: int = key(2000, at_least=1)
    """Clustered at an event; of more a random part."""
    neurons_per_event: int = key(1, at_least=1)
    """Grown at once, one per cluster from the largest down."""
    regularization: float = key(1e-3, at_least=0)
    """α, the weight of L_fold-reg in the loss."""
    regularize: str = key("newest", one_of=("newest", "all", "none"))
    """Whose folds are held: `newest` (of the last event), `all`, or `none`."""
    outgoing: str = key("uniform", one_of=("uniform", "descent"))
    """`uniform`: Algorithm 1's, the mean of the present ones for every output; `descent`: against their gradient, at the length
    that lowers the loss most. From the uniform ones no gradient reaches the incoming weights at first, and weight decay does."""
    steps: int = key(30, at_least=0, at_most=10**5)
    """Of gradient ascent on the incoming weights."""
    samples: int = key(500, at_least=1)
    """On which that ascent takes the expected norm of the gradient, and the descent its gradient and losses."""
    layer: int = key(1, at_least=1)
    """Which of the hidden layers that can fold is grown, counted from the input."""
    tolerance: float | None = key(None, at_least=0, null="for the root mean square error")
    """Regression: a distance from the target above this is a mistake; null: above the root mean square error."""

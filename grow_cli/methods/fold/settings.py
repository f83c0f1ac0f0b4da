"""The keys of Fold."""

from __future__ import annotations

from dataclasses import dataclass

from grow_cli.keys import key
from grow_cli.methods.base import Method


@dataclass
class Settings(Method):
    """Algorithm 1, with its choices."""

    on_several_ranks = True
    replayable_regularizer = True

    cluster: str = key("kmeans", one_of=("kmeans", "hdbscan"))
    """`kmeans`, with the number of clusters that maximises the silhouette, or `hdbscan`."""
    space: str = key("input", one_of=("input", "feature"))
    """Space in which mistakes are clustered: `input`, or `feature`, the hidden layer's activations."""
    weight: str = key("count", one_of=("count", "severity"))
    """Size of a cluster: its number of mistakes (`count`), or the sum of their losses (`severity`)."""
    max_clusters: int = key(10, at_least=2)
    """k-means: the most clusters."""
    max_mistakes: int = key(2000, at_least=1)
    """The most mistakes clustered per event; of more, a random part is used."""
    neurons_per_event: int | None = key(None, at_least=1, null="for one in each cluster")
    """Neurons per event, one per cluster from the largest down (k-means then looks for at least as many clusters, up to
    max_clusters); null: one in each, as far as growth.neurons allows; 1: Algorithm 1's typical mistake."""
    regularization: float = key(1e-3, at_least=0)
    """α, the weight of L_fold-reg in the loss."""
    regularize: str = key("newest", one_of=("newest", "all", "none"))
    """Which folds the regularizer holds: `newest` (of the last event), `all`, or `none`."""
    outgoing: str = key("uniform", one_of=("uniform", "descent"))
    """Outgoing weights of a new neuron. `uniform` (Algorithm 1): the mean of the existing ones for every output;
    `descent`: along the negative gradient, with the length that lowers the loss most. With `uniform` no gradient
    reaches the incoming weights at first, while weight decay does."""
    steps: int = key(30, at_least=0, at_most=10**5)
    """Steps of gradient ascent on the incoming weights."""
    samples: int = key(500, at_least=1)
    """Samples on which the ascent estimates the norm of the gradient, and `descent` its gradient and losses."""
    layer: int = key(1, at_least=1)
    """Which of the hidden layers that can fold grows, counted from the input."""
    tolerance: float | None = key(None, at_least=0, null="for the root mean square error")
    """Regression: a larger distance from the target is a mistake; null: the root mean square error."""

"""Clusters of mistakes (Fold, Hypothesis 1): the largest holds the typical one."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]

# Points on which the number of clusters is chosen: a silhouette takes all their distances.
_CHOSEN_ON = 1000


@dataclass(frozen=True)
class Cluster:
    """Some of the mistakes."""

    members: NDArray[np.intp]
    """Their indices, the one nearest to the cluster's centre first."""
    weight: float
    """Their number, or the sum of their weights."""


@dataclass(frozen=True)
class Clustering:
    """All of them, the largest first, and what finding them cost."""

    clusters: list[Cluster]
    flops: int = 0


def cluster(
    points: Points, weights: NDArray[np.float64] | None, *, kind: str, most: int, seed: int, least: int = 2
) -> Clustering:
    """Clusters of points (n, d), of a weight (n,) each (None: all count alike), by `kmeans` or `hdbscan`.

    k-means with `least` to `most` clusters, as many as have the largest mean silhouette; never more than there are places or
    than `most`. HDBSCAN leaves noise out; where all is noise, the densest place is the one cluster. One mistake, or
    several alike, are a cluster of their own.
    """
    n = len(points)
    distinct = len(np.unique(points, axis=0))
    if n == 1 or distinct == 1:
        labels, flops = np.zeros(n, dtype=np.intp), 0
    elif kind == "hdbscan":
        labels, flops = _by_density(points), 2 * n * n * points.shape[1]
    else:
        labels, flops = _by_means(points, weights, least, min(most, distinct), seed)
    each = np.ones(n) if weights is None else weights
    found = []
    for label in range(int(labels.max()) + 1):
        own = np.flatnonzero(labels == label)
        if not len(own):
            continue
        # all weights can be 0 (a mistake of no cost): then none counts more
        shares = each[own] if each[own].sum() > 0 else np.ones(len(own))
        centre = np.average(points[own], axis=0, weights=shares)
        distances = np.square(points[own] - centre).sum(axis=1)
        found.append(Cluster(own[np.argsort(distances, kind="stable")], float(each[own].sum())))
    return Clustering(sorted(found, key=lambda c: -c.weight), flops)


def _by_means(
    points: Points, weights: NDArray[np.float64] | None, least: int, most: int, seed: int
) -> tuple[NDArray[np.intp], int]:
    """Labels (n,) and FLOPs; distances are two per coordinate and pair, and a multiply-add two FLOPs."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import silhouette_score
    from threadpoolctl import threadpool_limits

    n, d = points.shape
    flops = 0

    def fitted(x: Points, w: NDArray[np.float64] | None, k: int, tries: int) -> Any:
        nonlocal flops
        model = KMeans(k, n_init=tries, random_state=seed).fit(x, sample_weight=_in_float32(w))
        flops += 2 * len(x) * d * k * int(model.n_iter_) * tries
        return model

    # one thread: the sums' order, and so the result, must not depend on the machine's cores;
    # a part of the points may have fewer places than clusters are tried, of which scikit-learn warns
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning), threadpool_limits(1):
        chosen = np.random.default_rng(seed).permutation(n)[:_CHOSEN_ON]
        x, w = points[chosen], None if weights is None else weights[chosen]
        best, k = -np.inf, most
        for tried in range(least, min(most, len(x) - 1) + 1) if least < most else ():
            labels = fitted(x, w, tried, 1).labels_
            if 1 < len(np.unique(labels)) < len(x):
                score = silhouette_score(x, labels)
                flops += 2 * len(x) * len(x) * d
                if score > best:
                    best, k = score, tried
        labels = fitted(points, weights, k, 3).labels_
    return labels.astype(np.intp), flops


def _in_float32(weights: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """As scikit-learn takes them, which counts in the points' float32: none where all are zero, scaled where they must be."""
    most = 0.0 if weights is None else float(weights.max())
    if weights is None or most == 0:
        return None
    return weights if 1e-20 < most < 1e20 else weights / most


def _by_density(points: Points) -> NDArray[np.intp]:
    """Labels (n,), −1 for noise; where all is noise, the points nearest to the densest one are labelled 0."""
    from sklearn.cluster import HDBSCAN
    from sklearn.neighbors import NearestNeighbors

    smallest = min(5, len(points))
    labels = HDBSCAN(min_cluster_size=max(2, smallest), copy=True).fit(points).labels_.astype(np.intp)
    if labels.max() < 0:
        distances, neighbours = NearestNeighbors(n_neighbors=smallest).fit(points).kneighbors(points)
        labels[neighbours[distances[:, -1].argmin()]] = 0
    return labels

"""Growth sites: the places where a net can grow, as references to its modules.

Sites describe the current net; ask the net for them again after it has grown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from grow_cli.models.modules.layers import Growable, LinearMap, TransformerBlock


@dataclass(frozen=True)
class WidthSite:
    """One hidden dimension.

    To widen it is to append rows to the producer, entries to the followers and columns to the consumer.
    """

    kind: ClassVar[str] = "width"

    name: str
    producer: LinearMap
    """Whose outputs the units' pre-activations are."""
    between: tuple[nn.Module, ...]
    """Everything from the producer's output to the consumer's input, in order: norm, activation, pooling, flatten."""
    activation: nn.Module
    """The nonlinearity among `between`."""
    consumer: LinearMap
    columns_per_unit: int = 1
    """Columns of the consumer's weight that read one unit: its pixels, where a flatten lies in between."""

    @property
    def units(self) -> int:
        """The present width."""
        return self.producer.weight.shape[0]

    @property
    def followers(self) -> tuple[nn.Module, ...]:
        """Those of `between` with tensors of an entry per unit."""
        return tuple(m for m in self.between if any(t.ndim for t in m.state_dict().values()))


@dataclass(frozen=True)
class DepthSite:
    """A place in a stack of layers where one more can be inserted, which becomes `stack[index]`."""

    kind: ClassVar[str] = "depth"

    name: str
    """That of the layer to come."""
    stack: nn.ModuleList
    index: int
    make_block: Callable[[], Growable]
    """The new layer as the net's initialization makes it. In a residual stream it is shaped like the present
    `stack[index]` (at the end: like the last), else it keeps the shape of what passes there."""
    residual: bool
    """Whether the layer adds to a stream (then its `identity_()` is exact) or takes its place."""
    units: int
    """Hidden units of the new layer."""
    identity: bool
    """Whether `make_block().identity_()` leaves the net's function as it is."""
    consumer: LinearMap | None = None
    """The linear map that reads the layer's output, perhaps pooled and flattened; None in a residual stream."""
    between: tuple[nn.Module, ...] = ()
    """What the layer's output passes on the way to the consumer: pooling, flatten."""


@dataclass(frozen=True)
class HeadSite:
    """The attention heads of one block.

    To add one is to append `size` rows to the maps that make queries, keys and values, and as many columns to the map that
    reads what the heads bring together.
    """

    kind: ClassVar[str] = "heads"

    name: str
    block: TransformerBlock
    make_block: Callable[[int], TransformerBlock]
    """A block with so many heads, as the net's initialization makes it."""

    @property
    def units(self) -> int:
        """The present number of heads."""
        return self.block.heads

    @property
    def size(self) -> int:
        """Numbers per head."""
        return self.block.head_size

    @property
    def producers(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """Of queries, keys and values."""
        return self.block.query, self.block.key, self.block.value

    @property
    def consumer(self) -> nn.Linear:
        """Which reads the heads, one after another."""
        return self.block.out

"""What a CUDA graph does, on the CPU: operations are recorded without effect, and replayed on the same tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Work = Callable[[], tuple[Tensor, Tensor]]


class Recorded:
    """A `Recorder`. While it records, what is there already keeps its values, as on a GPU, where nothing runs then."""

    def __init__(self) -> None:
        self.recordings = self.replays = self.operations = 0

    def warm_up(self, work: Work) -> tuple[Tensor, Tensor]:
        return work()

    def record(self, work: Work) -> tuple[tuple[Tensor, Tensor], Callable[[], None]]:
        self.recordings += 1
        operations = _Operations()
        stream = torch.get_rng_state()
        with operations:
            done = work()
        torch.set_rng_state(stream)
        operations.take_back()
        for result in done:
            result.fill_(torch.nan)  # no value is there before the first replay
        self.operations = len(operations.seen)

        def replay() -> None:
            self.replays += 1
            operations.again()

        return done, replay


class _Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.made: set[int] = set()  # memory of the recording's own
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        inputs = [t.untyped_storage() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        for there in inputs:  # all of them: batch norm's schema does not say that it writes
            if there.data_ptr() not in self.made:
                self.before.setdefault(there.data_ptr(), (there, there.clone()))
        done = func(*args, **kwargs)
        outputs = {t.untyped_storage().data_ptr() for t in tree_leaves(done) if isinstance(t, Tensor)}
        self.made |= outputs - {there.data_ptr() for there in inputs}
        self.seen.append((func, args, kwargs, done))
        return done

    def take_back(self) -> None:
        for there, value in self.before.values():
            there.copy_(value)

    def again(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, done in self.seen:
                for there, new in zip(tree_leaves(done), tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(there, Tensor) and there.data_ptr() != new.data_ptr():
                        there.copy_(new)

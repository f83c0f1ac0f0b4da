"""What a forward pass costs."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from grow_cli.surgery.measure import evaluation_mode


def flops_per_sample(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Forward FLOPs of matrix products, convolutions and attention for one sample; a multiply-add is two.

    Elementwise work is not counted. Counted on tensors without memory and with the plain formula for attention:
    quick, and the same whatever device the net is on.
    """
    shapes = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    ghosts = {name: torch.empty_like(tensor, device="meta") for name, tensor in shapes.items()}
    x = torch.empty(1, *input_shape, device="meta", dtype=next(model.parameters()).dtype)
    with evaluation_mode(model), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        functional_call(model, ghosts, (x,))
    return int(counter.get_total_flops())

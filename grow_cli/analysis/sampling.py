"""Text with which a language net continues a prompt, byte by byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grow_cli.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from grow_cli.models.modules.network import GrowableModel


def prompt_bytes(prompt: str) -> bytes:
    """The prompt as UTF-8 bytes; UserError if it cannot be encoded."""
    try:
        found = prompt.encode("utf-8", "surrogateescape")  # a shell's bytes that are no UTF-8 come back as they were
    except UnicodeEncodeError as error:
        raise UserError(
            f"--prompt {prompt!r}: {prompt[error.start]!r} is half of a surrogate pair and has no bytes; leave it out"
        ) from error
    if not found:
        raise UserError("--prompt '': give at least one byte to continue from, such as --prompt 'def '")
    return found


def written_on(model: GrowableModel, prompt: bytes, length: int, temperature: float, seed: int) -> bytes:
    """`length` bytes after the prompt, of which the net sees as many as it has room for; drawn at this temperature,
    at 0 the likeliest each."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    context = model.input_shape[0]
    found = list(prompt)
    with torch.no_grad():
        for _ in range(length):
            logits = model(torch.tensor([found[-context:]]))[0, -1]
            if temperature == 0:
                found.append(int(logits.argmax()))
            else:
                chances = (logits.double() / temperature).softmax(0)
                found.append(int(torch.multinomial(chances, 1, generator=generator)))
    return bytes(found[len(prompt) :])


def sample(checkpoint: Path, prompt: bytes, length: int, temperature: float, seed: int) -> bytes:
    """The same of a checkpoint's net; UserError where it predicts no text."""
    from grow_cli.analysis.phases import load_phase

    model = load_phase(checkpoint).model
    if model.task != "language":
        raise UserError(
            f"this run's net (model={model.name}) learned a {model.task} and cannot write text: name a run with model=gpt"
        )
    return written_on(model, prompt, length, temperature, seed)

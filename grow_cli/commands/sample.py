"""`grow sample`: text that a language net writes."""

from __future__ import annotations

import math

from grow_cli.commands.overrides import existing
from grow_cli.console import Parser
from grow_cli.errors import UserError
from grow_cli.files import is_there


def parser() -> Parser:
    """The command's arguments."""
    parser = Parser(
        prog="grow sample",
        description="Print a prompt and the text with which a run's net (model=gpt) continues it, on the CPU. The same "
        "seed gives the same text.",
    )
    parser.add_run()
    parser.add_argument("--prompt", required=True, metavar="TEXT", help='text to continue, such as "def "')
    parser.add_argument("--length", type=int, default=200, metavar="N", help="number of bytes to write (default: 200)")
    parser.add_argument(
        "--temperature", type=float, default=0.8, metavar="T", help="0 always takes the most likely byte (default: 0.8)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")
    parser.add_best()
    return parser


def main(arguments: list[str]) -> int:
    """Print the text."""
    options = parser().parse(arguments)
    if not 1 <= options.length <= 10**6:
        raise UserError(f"--length {options.length}: from 1 to 1,000,000 bytes")
    if not (math.isfinite(options.temperature) and options.temperature >= 0):
        raise UserError(f"--temperature {options.temperature:g}: 0 or more, 1 for the net's own probabilities")
    if not 0 <= options.seed < 2**63:
        raise UserError(f"--seed {options.seed}: from 0 to 2^63 - 1")
    folder = existing(options.run)
    from grow_cli.analysis.sampling import prompt_bytes, sample

    prompt = prompt_bytes(options.prompt)
    checkpoint = folder.checkpoints / f"{options.which}.pt"
    if not is_there(checkpoint):
        raise UserError(
            f"there is no checkpoint at {checkpoint}: wait until the run has written one, or name another run"
        )
    text = sample(checkpoint, prompt, options.length, options.temperature, options.seed)
    # bytes that are no UTF-8, and what would steer a terminal, as signs
    shown = (prompt + text).decode("utf-8", "replace")
    print("".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in shown))
    return 0

"""`grow explain`: why each neuron exists."""

from __future__ import annotations

from grow_cli.commands.overrides import config_of, existing
from grow_cli.console import Parser, page_name


def parser() -> Parser:
    """The command's arguments."""
    parser = Parser(
        prog="grow explain",
        description="Show why each neuron exists: the mistake that it was grown for, before and after, as one HTML page.",
    )
    parser.add_run()
    parser.add_output("FILE.html", "file to write the page to (default: explain.html in RUN)")
    return parser


def main(arguments: list[str]) -> int:
    """Write the page and print where it is."""
    options = parser().parse(arguments)
    folder = existing(options.run)
    output = page_name(options.output or folder.path / "explain.html")
    from grow_cli.analysis.explain import write_page

    print(write_page(folder, config_of(folder), output))
    return 0

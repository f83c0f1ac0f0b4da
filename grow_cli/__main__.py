"""`python -m grow_cli` is `grow`."""

from grow_cli.cli import main

if __name__ == "__main__":
    main()

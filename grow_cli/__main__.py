"""`python -m grow_cli` is `grow`."""

import os
import sys

from grow_cli import launched
from grow_cli.cli import main

if __name__ == "__main__":
    try:
        main()
    except SystemExit as left:
        if launched.world() == 1:
            raise
        # One of several processes: a thread of torch's that lets go of a tensor while Python ends would abort the process, and
        # torchrun then ends the others. All is written by now.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(left.code if isinstance(left.code, int) else 1)

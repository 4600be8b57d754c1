"""`python -m sciml.experiments`, the same as the command `sciml`."""

import sys

from sciml.experiments.cli import main

if __name__ == "__main__":
    sys.exit(main())

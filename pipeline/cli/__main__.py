"""`python -m pipeline.cli`: the command `tfrec`."""

import sys

from pipeline.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

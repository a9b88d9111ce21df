"""`python -m pipeline.cli`, and where `tfrec` begins: Ctrl-C has a word from the first import on."""

import sys


def entry() -> int:
    """Runs `main`; 130 where Ctrl-C comes before it has begun."""
    try:
        from pipeline.cli.main import main

        return main()
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(entry())

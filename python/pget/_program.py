"""The program ``pget``."""

import signal
import sys


def main() -> int:
    """Runs the program with the process's arguments, and returns its exit status."""
    from ._pget import main as program

    # As a program that is not Python's: the shell expects these signals to end it.
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    return program(sys.argv)


if __name__ == "__main__":
    sys.exit(main())

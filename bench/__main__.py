"""The command `bench`, which is also `python -m parbench.bench`."""

import sys

from parbench.bench.util.interrupted import INTERRUPTED, end_quietly_from_now_on, say_interrupted
from parbench.bench.util.search_path import leave_current_folder


def main() -> None:
    """Run the command line; nothing is imported from the current folder."""
    try:
        leave_current_folder()
        # Only now, because the command line's own libraries would be searched there as well.
        from parbench.bench.cli import main as command_line

        command_line()
    except KeyboardInterrupt:  # in the imports, or when the command itself is done
        say_interrupted()
        sys.exit(INTERRUPTED)
    finally:
        end_quietly_from_now_on()


if __name__ == "__main__":
    main()

"""The command `bench`, which is also `python -m parbench.bench`."""

from parbench.bench.util.search_path import leave_current_folder


def main() -> None:
    """Run the command line; nothing is imported from the current folder."""
    leave_current_folder()
    # Only now, because the command line's own libraries would be searched there as well.
    from parbench.bench.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()

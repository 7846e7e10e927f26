"""``python -m vots_hqtrack`` is the command ``hqtrack``."""

from vots_hqtrack.cli.signals import listen


def main() -> None:
    """Run the command line; what the installed command ``hqtrack`` starts."""
    listen("leave")  # before the imports below, which take their time
    from vots_hqtrack.cli.main import main as run

    run()


if __name__ == "__main__":
    main()

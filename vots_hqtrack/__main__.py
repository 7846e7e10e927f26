"""``python -m vots_hqtrack`` is the command ``hqtrack``."""

from vots_hqtrack.cli.main import main

if __name__ == "__main__":
    main()

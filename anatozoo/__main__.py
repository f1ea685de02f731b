"""``python -m anatozoo`` is the command line ``anatozoo``."""

import sys

from anatozoo.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m solo_frossl COMMAND ...`` is ``solo-frossl COMMAND ...``."""

import sys

from solo_frossl.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m topocomm``."""

import sys

from topocomm.cli import main

sys.exit(main())

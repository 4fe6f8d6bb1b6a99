"""``python -m topocomm.cli.put``."""

import sys

from topocomm.cli.put import main

sys.exit(main())

"""``python -m bench.cluster``."""

import sys

from bench.cluster.command import main, tidy_up_on_signals

tidy_up_on_signals()
sys.exit(main())

"""``python -m vla_ros.cli`` is ``vla_ros``."""

import sys

from vla_ros.cli.main import main

sys.exit(main())

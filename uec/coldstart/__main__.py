"""`python -m uec.coldstart`, which `make coldstart` calls: the one start checkpoint that there is."""

import sys

from uec.coldstart.countdown import main

sys.exit(main())

"""The algorithm without its actors: configuration, data, rewards, losses, evaluation, tracking. It imports neither Ray nor vLLM.

Importing `uec` makes `actors` importable. `actors` is beside `uec` in a checkout, and in `uec/bundled` in an installed wheel, which must
not claim that name in site-packages. Its parent folder goes to the end of sys.path, where it hides no other module.
"""

import os.path
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_BUNDLED = os.path.join(_HERE, "bundled")
ROOT = _BUNDLED if os.path.isdir(_BUNDLED) else os.path.dirname(_HERE)
"""The folder that contains actors/ and configs/."""

if ROOT not in sys.path:
    sys.path.append(ROOT)

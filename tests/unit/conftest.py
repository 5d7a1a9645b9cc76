"""How long properties are searched: shortly by default, thoroughly with `HYPOTHESIS_PROFILE=thorough`."""

import os

from hypothesis import settings

# No deadline per example: other programs share the cores, and a slow example is no wrong one.
settings.register_profile("quick", deadline=None, print_blob=True)
settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

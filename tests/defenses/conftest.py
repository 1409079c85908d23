"""Property tests without a stopwatch: a shared machine is slow at times."""

from hypothesis import settings

settings.register_profile("defenses", deadline=None, max_examples=50)
settings.load_profile("defenses")

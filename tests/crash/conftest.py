"""How long to look: 100 orders of operations here, or as the profile ``long`` says, which ``make crash-test`` asks for."""

from hypothesis import settings

settings.register_profile("long", max_examples=2000, deadline=None)

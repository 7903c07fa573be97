"""When Python looks for garbage: a look at the hundreds of thousands of objects of large libraries takes tenths of a second."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Do not look for garbage while the block imports, and never again among what there is then: libraries stay."""
    was_on, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        if len(sys.modules) > known:
            gc.freeze()

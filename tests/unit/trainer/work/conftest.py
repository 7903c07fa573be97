"""What the tests of the queue's worker share."""

import pytest

from tests.unit.trainer.house import House
from tests.unit.trainer.work.office import Office


@pytest.fixture
def office(house: House) -> Office:
    """A house with an empty queue."""
    return Office(house)

"""Where the wall time of a retrain goes."""

from services.common.parts import Parts
from services.trainer.training.job import Event, Finished, Interrupted, Loading, Step

UPDATES = "updates"


class RetrainParts(Parts):
    """The parts that a retrain waits for."""

    def take(self, event: Event) -> None:
        """Begin the part of the training that an event tells of.

        The first update is a part of its own, because kernels are compiled and recorded in it.
        """
        if isinstance(event, Loading):
            self.begin(event.what)
        elif isinstance(event, Step):
            self.begin(UPDATES)
        elif isinstance(event, Finished | Interrupted):
            self.begin("the worker's end")

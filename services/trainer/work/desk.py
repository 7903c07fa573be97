"""The job database, opened, with everything that a worker or the operator's door does with it."""

from services.common.paths import DataPaths
from services.jobs.database import Database
from services.jobs.deletions import Deletions
from services.jobs.files import FileStore
from services.jobs.queue import Queue
from services.jobs.work import Work


class Desk:
    """Queue, worker's side of it, files and deletions of one data root.

    Raises:
        DatabaseUnusable: the database cannot be opened.
    """

    def __init__(self, paths: DataPaths) -> None:
        """Open the database below ``paths``."""
        self.database = Database(paths.jobs_database)
        self.queue = Queue(self.database)
        self.work = Work(self.database)
        self.files = FileStore(self.database, paths.job_files)
        self.deletions = Deletions(self.database)

"""What goes wrong with jobs and files, as a tree; messages are for whoever asked."""


class JobsError(Exception):
    """Anything wrong with the queue or the file store."""


class DatabaseUnusable(JobsError):
    """The database cannot be opened, read or written; the message says the remedy."""


class FileUnknown(JobsError):
    """No such file, or not this caller's."""


class JobUnknown(JobsError):
    """No such job, or not this caller's."""


class WrongState(JobsError):
    """The job is in a state in which this cannot be done."""

"""Room for connections among the files that this process may have open."""

import resource

_RESERVE = 512  # for everything else: databases, versions that are read, the engine's sockets


def make_room(connections: int) -> int:
    """Raise the soft limit of open files so that so many connections fit, as far as the hard one lets it.

    Many hosts still begin with 1,024: without a file left, a server cannot even read its keys.

    Returns:
        how many fit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _RESERVE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(connections, max(soft - _RESERVE, soft // 2))

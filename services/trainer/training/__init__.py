"""The worker processes, one for each card: read a job file, train, emit events. Only the launcher, ranks and backends import torch."""

"""The worker process that holds the GPU: reads a job file, trains, emits events. Only its backends import torch."""

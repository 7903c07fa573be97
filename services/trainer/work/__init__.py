"""The trainer's side of the job queue: take a job, train it, say how it goes."""

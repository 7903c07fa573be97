"""The job queue and the files of fine-tuning: one embedded database on the shared volume, between server and trainer."""

"""OpenAI's files and fine-tuning on the job queue: decode, check, keep, and show in OpenAI's shapes."""

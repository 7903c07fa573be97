"""What is the project's own of an engine on a processor; vLLM takes it by name."""

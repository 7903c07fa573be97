"""What is the project's own of an engine on a card; vLLM takes it by name, or gets it put before its own."""

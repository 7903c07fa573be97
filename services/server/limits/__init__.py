"""What a key may ask for in a minute, and what it has asked for: counted in memory, by the one process that serves."""

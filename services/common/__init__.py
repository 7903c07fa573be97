"""What every service needs and none owns: settings, paths, logs, durable writes. Standard library, msgspec, structlog, rich."""

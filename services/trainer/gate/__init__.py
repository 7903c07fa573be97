"""The gate: a candidate is judged on the engine that will serve it, against the base and the version in service."""

"""One adapter's version in service in an engine of its own, whose weights it is merged into (docs/decisions/0106)."""

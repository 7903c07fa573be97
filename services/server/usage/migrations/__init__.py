"""How the database came to its table: one step per file of ``versions``."""

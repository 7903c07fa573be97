"""How the database came to its tables: one step per file of ``versions``."""

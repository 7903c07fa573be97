"""The door: a container of its own that binds the published port and lends the listening socket to the server, which has no network.

Both ends are here and need the standard library alone. No byte of a request comes through the door (docs/decisions/0096).
"""

"""The door: a container of its own that binds the published port and lends the listening socket to the server, which has no network.

Both ends are here and need the standard library alone. No byte of a request goes through the door (docs/decisions/0096); while no server
has the port it answers 503 itself (0100).
"""

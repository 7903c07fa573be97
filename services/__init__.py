"""Whetstone's services: trainer and server, which meet only in the registry."""

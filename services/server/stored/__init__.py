"""Responses that are kept for their apps, where the operator has switched that on: the server's own database of them."""

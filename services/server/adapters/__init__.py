"""Adapters: which version answers to which name, and how a new one gets there."""

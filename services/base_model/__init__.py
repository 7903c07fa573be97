"""The base model that adapters are trained on and served with: fetched once, identified by its bytes, read offline after.

``identity`` says which model lies in a folder, ``install`` puts one there whole or not at all, ``hub`` and ``convert`` are
the two places a model comes from.
"""

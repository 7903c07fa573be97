"""What can go wrong with the base model."""


class BaseModelError(Exception):
    """The base model is missing, damaged, unsafe or another one; the message is for the operator and says the remedy."""

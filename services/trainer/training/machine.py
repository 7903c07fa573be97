"""Tells a full card, memory or disk from a fault of the recipe, in whatever words a library says it; imports none of them."""

_OF_CARD = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_OF_DISK = ("enforce fail at inline_container", "iostream error", "os error")


def full_memory(error: Exception) -> str | None:
    """One sentence where the machine's or the card's memory did not suffice; None where it did."""
    words = str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in words:
        return "out of memory; lower recipe.rows_per_pass or recipe.max_length"
    # PyTorch's allocator has an error of its own; the driver and cuBLAS tell of the same in words.
    if type(error).__name__ == "OutOfMemoryError" or any(mark in words for mark in _OF_CARD):
        return (
            "the card's memory is full; stop other users of the card, set recipe.base_bits = 4, "
            "or lower recipe.rows_per_pass or recipe.max_length"
        )
    return None


def fault_of_machine(error: Exception) -> str | None:
    """One sentence where memory or disk is to blame for a training's end; None where neither is."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename or 'a file'}: {error.strerror}; check the data volume and its free space"
    # torch.save and safetensors tell of a full disk in errors of their own.
    if any(mark in str(error) for mark in _OF_DISK):
        return "a checkpoint cannot be written; check the data volume and its free space"
    return full_memory(error)

"""From the operator's rows to a published adapter; reads in the order of ``__main__``."""

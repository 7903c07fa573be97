"""One update as one pass without padding: rows joined end to end, logits only where something is learnt.

rows -> batch (join, mark the edges) -> attention (no row sees another) -> head (loss and its gradient in pieces) -> step (replayed as
CUDA graphs on a card) -> trainer (transformers' own loop around it).
"""

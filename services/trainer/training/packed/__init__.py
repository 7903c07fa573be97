"""One update as one pass without padding: rows joined end to end, logits only where something is learnt.

rows -> parts (one for each card) -> batch (join, mark the edges) -> attention (no row sees another) -> head (loss and its gradient in
pieces) -> step (replayed as CUDA graphs on a card) -> trainer (adds up over cards; transformers' own loop around it).
"""

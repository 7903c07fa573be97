"""The server: base model and adapters behind OpenAI's API, swapped without a restart.

Reading order: ``__main__`` -> ``serve`` (one process's life) -> ``app`` (routes) -> ``chat`` (a request's way) ->
``engine`` (vLLM behind a protocol) and ``adapters`` (which version answers to which name).
"""

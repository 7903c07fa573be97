"""The contract between trainer and server: immutable adapter versions, manifest last, a pointer moved by rename.

Writer and reader of the format live side by side here. Nothing in this package imports torch, vLLM or Litestar.
"""

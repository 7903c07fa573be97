"""The inference engine behind a protocol; only ``vllm`` imports vLLM."""

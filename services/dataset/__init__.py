"""From JSONL to tokens and labels, without a model: sources -> lines -> formats -> dedupe -> split -> render."""

"""OpenAI's Responses API, on the way that chat completions go: only the request's and the answer's form are its own."""

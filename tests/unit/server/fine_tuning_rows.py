"""Rows that an app may send to be trained on."""

import json

GOOD = b"".join(
    json.dumps({"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}).encode()
    + b"\n"
    for n in range(12)
)

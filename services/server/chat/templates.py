"""What a chat template can be told."""

import re
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, meta

# Hugging Face's own tag, around what a model is trained on; it names no variable.
_GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")


def variables_of(template: Any) -> frozenset[str]:
    """The names that a chat template, or one of several by name, reads and does not set itself, such as ``tools``."""
    if isinstance(template, dict):
        return frozenset[str]().union(*map(variables_of, template.values()))
    if not isinstance(template, str):
        return frozenset()
    try:
        # Parsed only, never run.
        parsed = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True).parse(
            _GENERATION.sub("", template)
        )
    except TemplateSyntaxError:
        return frozenset()
    return frozenset(meta.find_undeclared_variables(parsed))

"""Secret keys, by the forms that their issuers gave them so that they can be found."""

import re
from collections.abc import Iterator

_FORMS = (
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:[^-]{1,20000}-----END [A-Z0-9 ]{1,40}-----)?",
    r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",  # Amazon Web Services
    r"\bAIza[\w-]{35}(?![\w-])",  # Google
    r"\bgh[pousr]_[A-Za-z0-9]{36,251}\b",  # GitHub
    r"\bgithub_pat_[A-Za-z0-9_]{22,255}\b",
    r"\bglpat-[\w-]{20,300}",  # GitLab
    r"\bsk-(?=[\w-]{0,300}\d)(?=[\w-]{0,300}[A-Z])[\w-]{20,300}",  # OpenAI, Anthropic and servers like theirs
    r"\bws-[\w-]{43}(?![\w-])",  # this server
    r"\bhf_[A-Za-z0-9]{30,50}\b",  # Hugging Face
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,300}",  # Slack
    r"https://hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/\w{20,40}",
    r"\b[rs]k_live_[A-Za-z0-9]{16,250}\b",  # Stripe
    r"\bSG\.[\w-]{22}\.[\w-]{43}(?![\w-])",  # SendGrid
    r"\bnpm_[A-Za-z0-9]{36}\b",
    r"\bpypi-[\w-]{85,300}",
    r"\beyJ[\w-]{10,4000}\.eyJ[\w-]{10,8000}\.[\w-]{20,2000}",  # JSON Web Token, signed
    r"(?<=://)[^\s/:@]{1,100}:[^\s/:@]{3,200}(?=@[\w.-])",  # name and password in an address
)
_KEY = re.compile("|".join(_FORMS), re.ASCII)
# Most texts have none of these, and are done with.
_HINT = re.compile(r"[\w-]{20}|-----BEGIN |://[^\s/@]+@|SG\.", re.ASCII)


def keys(text: str) -> Iterator[tuple[int, int]]:
    """Where secret keys begin and end."""
    if _HINT.search(text) is not None:
        for found in _KEY.finditer(text):
            yield found.span()

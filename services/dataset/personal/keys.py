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
    # Others that begin as no word does (docs/decisions/0108).
    r"\bhttps://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/\d{17,20}/[\w-]{60,80}",
    r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b",  # Shopify
    r"\bdo[opr]_v1_[a-f0-9]{64}\b",  # DigitalOcean
    r"\bdp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{40,60}",  # Doppler
    r"\bdapi[a-f0-9]{32}(?:-\d)?\b",  # Databricks
    r"\bglsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}\b",  # Grafana
    r"\blin_api_[A-Za-z0-9]{40}\b",  # Linear
    r"\b[0-9a-f]{32}-us\d{1,2}\b",  # Mailchimp
    r"\bkey-[0-9a-f]{32}\b",  # Mailgun
    r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}\b",  # Postman
    r"\bsq0[a-z]{3}-[\w-]{22,43}(?![\w-])",  # Square
    r"\bhvs\.[\w-]{90,120}",  # HashiCorp Vault
    r"\b[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,70}",  # HashiCorp Terraform
    r"\bdckr_[po]at_[\w-]{27,32}(?![\w-])",  # Docker
    r"\bgsk_[A-Za-z0-9]{52}\b",  # Groq
    r"\bpplx-[A-Za-z0-9]{40,56}\b",  # Perplexity
    r"\bxai-[A-Za-z0-9]{70,90}\b",
    r"\br8_[A-Za-z0-9]{37}\b",  # Replicate
    r"(?<=\bAccountKey=)[A-Za-z0-9+/]{86}==",  # Azure
    r"\bAGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}\b",
    r"\bATATT3[\w=-]{100,300}",  # Atlassian
    r"\bntn_[A-Za-z0-9]{40,50}\b",  # Notion
    r"\bfigd_[\w-]{38,46}(?![\w-])",  # Figma
    r"\bNRAK-[A-Z0-9]{27}\b",  # New Relic
    r"\bsntry[su]_[\w+/=-]{40,300}",  # Sentry
    r"\bpscale_(?:tkn|pw|oauth)_[\w.=-]{32,64}",  # PlanetScale
    r"\bpul-[a-f0-9]{40}\b",  # Pulumi
    r"\b\d{8,10}:AA[\w-]{32,33}(?![\w-])",  # Telegram
    r"\beyJ[\w-]{10,4000}\.eyJ[\w-]{10,8000}\.[\w-]{20,2000}",  # JSON Web Token, signed
    r"(?<=://)[^\s/:@]{1,100}:[^\s/:@]{3,200}(?=@[\w.-])",  # name and password in an address
)
_KEY = re.compile("|".join(_FORMS), re.ASCII)
# Most texts have none of these, and are done with.
_LONG = re.compile(r"[\w-]{20}", re.ASCII)
_NAME_IN_ADDRESS = re.compile(r"://[^\s/@]+@", re.ASCII)
_BEGINNINGS = ("-----BEGIN ", "SG.", "AccountKey=")


def keys(text: str) -> Iterator[tuple[int, int]]:
    """Where secret keys begin and end."""
    if _may_hold_one(text):
        for found in _KEY.finditer(text):
            yield found.span()


def _may_hold_one(text: str) -> bool:
    if _LONG.search(text) or any(beginning in text for beginning in _BEGINNINGS):
        return True
    return "://" in text and _NAME_IN_ADDRESS.search(text) is not None

"""Settings for likely personal data, and numbers that check: made up, and nobody's."""

from typing import Any

from services.dataset.personal.settings import Kind, PersonalSettings

# Of each kind one, as it may stand in a row.
OF_KIND: dict[Kind, str] = {
    "email": "minji.kim@norudam.kr",
    "phone": "010-2345-6789",
    "resident_number": "850101-1234566",
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "key": "ghp_0123456789abcdefghijABCDEFGHIJ456789",
}


def personal(**different: Any) -> PersonalSettings:
    """Nothing is looked for, but what ``different`` says."""
    allowed: dict[str, Any] = dict.fromkeys(OF_KIND, "allow")
    return PersonalSettings(**(allowed | {"phone_region": "KR", "ours": []} | different))

"""The table ``data.personal`` of ``config/training.toml``."""

from typing import Annotated, Literal

import msgspec
import phonenumbers

Kind = Literal["email", "phone", "resident_number", "card", "iban", "key"]
Policy = Literal["allow", "warn", "redact", "refuse"]


class PersonalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done about each kind.

    Attributes:
        phone_region: the country, in two capitals, that phone numbers without a country code belong to.
        ours: texts that are nobody's but the company's, such as its hotline, as they stand in the rows.
    """

    email: Policy
    phone: Policy
    resident_number: Policy
    card: Policy
    iban: Policy
    key: Policy
    phone_region: Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$")]
    ours: list[str]

    def __post_init__(self) -> None:
        """Refuse a country that has no phone numbers."""
        if self.phone_region not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError(f"phone_region = {self.phone_region} is no country with phone numbers")

    def policy(self, kind: Kind) -> Policy:
        """What is done about a kind."""
        policy: Policy = getattr(self, kind)
        return policy

"""E-mail addresses, and phone numbers as Google's libphonenumber knows them."""

import re
from collections.abc import Iterator
from functools import cache

import phonenumbers
from phonenumbers import Leniency, PhoneNumberMatcher, PhoneNumberType

_EMAIL = re.compile(
    r"[A-Za-z0-9_%+-](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?[@\uff20]"
    r"(?!\dx\.)"  # picture@2x.png
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9-])"
)
# RFC 2606: nobody's.
_RESERVED = re.compile(r"(?:[@.]example\.(?:com|net|org)|\.(?:example|test|invalid|localhost))\Z", re.IGNORECASE)
# libphonenumber takes milliseconds for a page of figures. Texts without these are done with: dates, prices and order numbers
# seldom begin with a zero.
_SEVEN_DIGITS = re.compile(r"(?:\d\W{0,3}){7}")
_ZERO_OR_PLUS = re.compile(r"[+0\uff0b\uff10](?<![\dA-Za-z].)(?<!\d[-./:,].)\d(?:\W{0,3}\d){5}")
_SOMEBODYS = frozenset(
    {
        PhoneNumberType.FIXED_LINE,
        PhoneNumberType.MOBILE,
        PhoneNumberType.FIXED_LINE_OR_MOBILE,
        PhoneNumberType.VOIP,
        PhoneNumberType.PERSONAL_NUMBER,
        PhoneNumberType.PAGER,
    }
)


def emails(text: str) -> Iterator[tuple[int, int]]:
    """Where e-mail addresses begin and end, but those of domains that are reserved for examples."""
    if "@" in text or "\uff20" in text:
        for found in _EMAIL.finditer(text):
            if not _RESERVED.search(found[0]):
                yield found.span()


def phones(text: str, region: str) -> Iterator[tuple[int, int]]:
    """Where phone numbers of people begin and end; hotlines and toll-free numbers are a company's.

    Args:
        text: any.
        region: the country that numbers without a country code belong to.
    """
    hint = _ZERO_OR_PLUS if _begins_with_zero(region) else _SEVEN_DIGITS
    if hint.search(text) is None:
        return
    for found in PhoneNumberMatcher(text, region, leniency=Leniency.STRICT_GROUPING):
        if phonenumbers.number_type(found.number) in _SOMEBODYS:
            opened = found.raw_string.startswith(("(", "\uff08")) and ")" not in found.raw_string
            yield found.start + opened, found.end  # the bracket is the sentence's


@cache
def _begins_with_zero(region: str) -> bool:
    """Whether a number without its country code begins with a zero there."""
    return phonenumbers.ndd_prefix_for_region(region, strip_non_digits=True) == "0"

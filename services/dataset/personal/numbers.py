"""Numbers with a check digit: Korean resident registration numbers, payment cards, IBANs.

The check digits are python-stdnum's; what is written here is how the numbers stand in a text.
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, date, datetime

from stdnum import iban, luhn
from stdnum.exceptions import ValidationError
from stdnum.kr import rrn

_DASH = r"[-\u2010-\u2015\uff0d]"
# The first digit comes before what may not be in front of it: so a search need not look at every letter.
_FIRST = rf"\d(?<![\d.].)(?<!\d{_DASH}.)"
_LAST = rf"(?!{_DASH}?\d)"
_RESIDENT = re.compile(rf"{_FIRST}\d{{5}} ?{_DASH}? ?\d{{7}}{_LAST}")
# In the groups that are embossed, or in one: 16 and 19 digits, American Express 15, Diners Club 14.
_CARD = re.compile(
    rf"{_FIRST}\d{{3}}(?:(?P<gap> |{_DASH}|)(?:\d{{4}}(?P=gap)){{2}}\d{{4}}(?:(?P=gap)\d{{3}})?"
    rf"|(?P<gap_of_three> |{_DASH}|)\d{{6}}(?P=gap_of_three)\d{{4,5}}){_LAST}"
)
# Visa and Korea's own; Mastercard; JCB; Discover; UnionPay; American Express; Diners Club.
_ISSUED = re.compile(
    r"(?:[49]\d{3}|5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720|35(?:2[89]|[3-8]\d)|6011|64[4-9]\d|65\d\d|62\d\d)\d{12}"
    r"|62\d{17}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
)
_IBAN = re.compile(r"[A-Z](?<![A-Za-z\d].)[A-Z]\d{2}(?: ?[A-Z\d]{4}){2,7}(?: ?[A-Z\d]{1,3})?(?![a-z])")
_SHORTEST_IBAN = 15
_OLDEST_YEARS = 110
_FOREIGNERS = "5678"
# From then on the last digits are drawn by lot, without a check digit: of those born since, and of foreigners who came since.
_NO_CHECK_DIGIT_SINCE = date(2020, 10, 1)


def resident_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Where Korean resident registration numbers begin and end, foreigners' included."""
    for found in _RESIDENT.finditer(text):
        if _is_resident_number(_digits(found[0]), apart=not found[0].isdecimal()):
            yield found.span()


def cards(text: str) -> Iterator[tuple[int, int]]:
    """Where payment card numbers begin and end."""
    for found in _CARD.finditer(text):
        digits = _digits(found[0])
        if _ISSUED.fullmatch(digits) and luhn.is_valid(digits):
            yield found.span()


def ibans(text: str) -> Iterator[tuple[int, int]]:
    """Where IBANs begin and end."""
    for found in _IBAN.finditer(text):
        # Capitals after it may look like its end: the longest beginning that checks is taken.
        ends = [end for end in range(found.end(), found.start(), -1) if text[end - 1] != " "]
        for end in ends[: 1 - _SHORTEST_IBAN]:
            if iban.is_valid(text[found.start() : end]):
                yield found.start(), end
                break


def _digits(text: str) -> str:
    """The digits alone, whatever script they are written in."""
    return "".join(str(unicodedata.digit(letter)) for letter in text if letter.isdecimal())


def _is_resident_number(digits: str, *, apart: bool) -> bool:
    """Whether thirteen digits can be one; ``apart`` where birth date and the rest are told apart, as people write it."""
    today = datetime.now(UTC).date()
    try:
        born = rrn.get_birth_date(digits)
    except ValidationError:
        return False
    if not 0 <= (today - born).days <= _OLDEST_YEARS * 366:
        return False
    return rrn.is_valid(digits) or (apart and (digits[6] in _FOREIGNERS or born >= _NO_CHECK_DIGIT_SINCE))

"""Likely personal data: what is found and what is not, and that check digits, not luck, tell the two apart."""

import random
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dataset.personal.finder import Finder
from services.dataset.personal.settings import Kind, PersonalSettings
from tests.support.personal import OF_KIND, personal

EVERYTHING = personal(**dict.fromkeys(OF_KIND, "warn"))
JWT = f"eyJ{'a' * 20}.eyJ{'b' * 40}.{'c' * 43}"


def found(text: str, settings: PersonalSettings = EVERYTHING) -> list[tuple[Kind, str]]:
    return [(item.kind, text[item.start : item.end]) for item in Finder(settings)(text)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *OF_KIND.items(),
        ("email", "a_b+c.d%e@mail.sub-domain.co.kr"),
        ("email", "minji\uff20norudam.kr"),
        ("phone", "01023456789"),
        ("phone", "(02) 345-6789"),
        ("phone", "+82 10 2345 6789"),
        ("phone", "+49 30 901820"),
        ("phone", "\uff10\uff11\uff10-\uff12\uff13\uff14\uff15-\uff16\uff17\uff18\uff19"),
        ("resident_number", "8501011234566"),
        ("resident_number", "850101 - 1234566"),
        ("resident_number", "\uff18\uff15\uff10\uff11\uff10\uff11-\uff11\uff12\uff13\uff14\uff15\uff16\uff16"),
        ("resident_number", "850101-5234567"),  # a foreigner's: drawn by lot since 2020
        ("resident_number", "210305-3234567"),  # born since then
        ("card", "4111111111111111"),
        ("card", "5555-5555-5555-4444"),
        ("card", "3782 822463 10005"),
        ("card", "30569309025904"),
        ("iban", "GB82WEST12345698765432"),
        ("key", "AKIAIOSFODNN7EXAMPLE"),
        ("key", "sk-proj-Abcdefghijklmnop0123456789"),
        ("key", JWT),
        ("key", f"xoxb-{'0123456789' * 2}-aB3dE6gH9jK2"),
        ("key", f"-----BEGIN RSA PRIVATE KEY-----\n{'MIIEow' * 9}\n-----END RSA PRIVATE KEY-----"),
        ("key", f"ws-{'aB3_' * 10}xyz"),
    ],
)
def test_each_kind_is_found_whole_within_a_sentence_of_either_script(kind: Kind, text: str) -> None:
    assert found(text) == [(kind, text)]
    assert found(f"고객 정보는 {text}입니다.") == [(kind, text)]
    assert found(f"({text}), please.") == [(kind, text)]


LETTERS, UPPER, HEX = "aB3dE6gH9jK2mN5pQ8sT", "A3CD6F7H9JK2MN5PQ8RT", "0a1b2c3d4e5f60718293"


@pytest.mark.parametrize(
    ("before", "letters", "count", "after"),
    [
        ("AIza", LETTERS, 35, ""),
        ("ghp_", LETTERS, 36, ""),
        ("github_pat_", LETTERS, 82, ""),
        ("glpat-", LETTERS, 20, ""),
        ("hf_", LETTERS, 34, ""),
        ("https://hooks.slack.com/services/T0123ABCD/B0123ABCD/", LETTERS, 24, ""),
        ("sk_live_", LETTERS, 24, ""),
        (f"SG.{LETTERS}aB.", LETTERS, 43, ""),
        ("npm_", LETTERS, 36, ""),
        ("pypi-", LETTERS, 150, ""),
        ("https://discord.com/api/webhooks/123456789012345678/", LETTERS, 68, ""),
        ("shpat_", HEX, 32, ""),
        ("dop_v1_", HEX, 64, ""),
        ("dp.pt.", LETTERS, 43, ""),
        ("dapi", HEX, 32, ""),
        ("glsa_", LETTERS, 32, "_0a1b2c3d"),
        ("lin_api_", LETTERS, 40, ""),
        ("", HEX, 32, "-us12"),
        ("key-", HEX, 32, ""),
        (f"PMAK-{HEX}0a1b-", HEX, 34, ""),
        ("sq0csp-", LETTERS, 43, ""),
        ("hvs.", LETTERS, 95, ""),
        ("aB3dE6gH9jK2mN.atlasv1.", LETTERS, 67, ""),
        ("dckr_pat_", LETTERS, 27, ""),
        ("gsk_", LETTERS, 52, ""),
        ("pplx-", LETTERS, 48, ""),
        ("xai-", LETTERS, 80, ""),
        ("r8_", LETTERS, 37, ""),
        ("AGE-SECRET-KEY-1", "QPZRY9X8GF2TVDW0S3JN", 58, ""),
        ("ATATT3", LETTERS, 180, ""),
        ("ntn_", LETTERS, 46, ""),
        ("figd_", LETTERS, 40, ""),
        ("NRAK-", UPPER, 27, ""),
        ("sntryu_", HEX, 64, ""),
        ("pscale_tkn_", LETTERS, 43, ""),
        ("pul-", HEX, 40, ""),
        ("123456789:AA", LETTERS, 33, ""),
    ],
)
def test_a_key_of_each_issuers_form_is_found_whole_and_none_that_is_cut(
    before: str, letters: str, count: int, after: str
) -> None:
    token = f"{before}{(letters * 10)[:count]}{after}"
    assert found(f"고객이 보낸 키는 {token}입니다.") == [("key", token)]
    assert ("key", token[:20]) not in found(token[:20])


def test_the_key_of_an_account_is_found_without_its_name() -> None:
    assert found(f"AccountName=norudam;AccountKey={'aB+/' * 21}aB==;") == [("key", f"{'aB+/' * 21}aB==")]


def test_a_password_in_an_address_is_found_without_the_address() -> None:
    assert found("postgres://admin:hunter2@db.norudam.kr/x") == [("key", "admin:hunter2")]


@pytest.mark.parametrize(
    "text",
    [
        "주문번호 20240131-1234567, 240131-1234567",
        "order 1012345678, 2024013112345, 031-1234-5678-99",
        "2024-01-31 10:20:30, 2026-11-25T20:16:44Z, 1990.01.31, 1732530000000",
        "1,234,567,890원, $12,345.67, 3.1415926535897932384",
        "850101-1234567, 851301-1234560",  # a wrong check digit, no such month
        "4111 1111 1111 1112, 1234 5678 9012 3452, 4111 1111-1111 1111",  # wrong digit, no issuer, odd groups
        "DE89 3704 0044 0532 0130 01",
        "help@example.com, a@b.example, picture@2x.png, @minji, a@b",
        "1588-1234, 080-123-4567",  # a company's
        "사업자등록번호 123-45-67890, ISBN 978-89-1234-567-8, EAN 8801234567893",
        "123e4567-e89b-12d3-a456-426614174000",
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "a-very-long-name-of-a-style-sheet-class sk-container-with-toggles",
    ],
)
def test_order_numbers_dates_prices_and_other_figures_are_left_alone(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(("digits", "most"), [(10, 0.001), (12, 0.001), (13, 0.006), (14, 0.01), (16, 0.05)])
def test_few_figures_of_any_length_look_like_somebodys(digits: int, most: float) -> None:
    """Of order numbers without a zero in front, which phone numbers have."""
    draw = random.Random(digits)  # noqa: S311 - figures, not secrets
    numbers = [str(draw.randint(10 ** (digits - 1), 10**digits - 1)) for _ in range(20_000)]
    assert sum(bool(found(f"order {number}")) for number in numbers) <= most * len(numbers)


def test_a_kind_that_is_allowed_is_not_found_and_no_stretch_is_found_twice() -> None:
    assert found(" ".join(OF_KIND.values()), personal()) == []
    assert [kind for kind, _ in found(", ".join(OF_KIND.values()))] == list(OF_KIND)
    assert found("https://x:a@b.co.kr:8080@norudam.kr") != []


def test_what_is_the_companys_own_is_passed_over_however_it_is_spaced() -> None:
    settings = msgspec.structs.replace(EVERYTHING, ours=["02-345-6789", "Help@Norudam.kr"])
    assert found("(02) 345 6789, help@norudam.kr, 02-345-6780", settings) == [("phone", "02-345-6780")]


def test_a_number_without_country_code_belongs_to_the_country_that_is_set() -> None:
    assert found("650-253-0000") == []
    assert found("650-253-0000", msgspec.structs.replace(EVERYTHING, phone_region="US")) == [("phone", "650-253-0000")]


def test_a_country_without_phone_numbers_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="phone_region = XX is no country"):
        msgspec.convert({**msgspec.to_builtins(EVERYTHING), "phone_region": "XX"}, PersonalSettings)


@given(st.text())
def test_whatever_the_text_the_stretches_are_in_order_and_apart(text: str) -> None:
    places = [place for item in Finder(EVERYTHING)(text) for place in (item.start, item.end)]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "text",
    ["1 " * 50_000, "0" * 100_000, "a@" * 50_000, "a." * 50_000, "AB12 " * 20_000, "a-" * 50_000, "://a:" * 20_000],
)
def test_a_text_made_to_be_slow_is_not(text: str) -> None:
    began = time.process_time()
    found(text)
    assert time.process_time() - began < 5.0

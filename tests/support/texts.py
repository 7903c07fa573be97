"""Texts on which two ways to read or write them would differ if they differed anywhere."""

TEXTS = (
    "The delivery takes three working days, and you may return it within a month.",
    "배송에는 영업일 기준 사흘이 걸리며, 한 달 안에 반품하실 수 있습니다.",
    "고객님, 주문하신 물건은 내일 도착합니다! 😀 감사합니다 🙇‍♀️",
    "👩‍👩‍👧‍👦 🇰🇷 👍🏽 ❤️‍🔥 and then plain words",
    "각 낱말을 자모로: 한국어",  # Hangul jamo, decomposed
    "def f(x):\n\treturn {'a': [x, None], \"b\": x ** 2}\n\n\n# end",
    "  leading blanks, trailing blanks   \n",
    "\n\n\nlines before",
    "Ünïcödé, naïve café, e\u0301 and é; \u202eright to left\u202c עברית العربية",
    "數學 ∑ ∫ √ \U0001d518\U0001d52b\U0001d526 𓀀 \U0001f9ff",
    "<|im_start|>system\nspecial tokens in a text<|im_end|> go on",
    'quotes " \\ / \b \f \r \x01 \x7f \u2028 \u2029 \ufeff \ufffd and NUL \x00 end',
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "1234567890 3.14159 1,000,000 ₩15,000 2026-11-26T03:00:00Z",
    "word " * 60,
    "한글" * 40,
)

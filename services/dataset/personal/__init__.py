"""Likely personal data in rows: found by form and check digits, then told, replaced or refused (docs/decisions/0073)."""

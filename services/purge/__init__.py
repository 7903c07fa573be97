"""A person's rows: found wherever the appliance keeps rows, removed, and followed to the versions that learnt them.

needles (what to look for) -> search (where it is) -> versions (what learnt it) -> remove -> report. Nothing that is printed or
written holds what was looked for, or a row.
"""

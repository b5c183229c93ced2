"""A cloud with Nova: its databases read, nova-compute spoken to, neither changed.

What is known here of Nova are facts of its database schema and its RPC, of the
releases 2024.1 (29) to 2026.2 (34); none of its code is used.
"""

"""Integration with Nova: reads its databases and sends messages to nova-compute, without changes to both.

This package contains facts about the database schema and the RPC of Nova, for the releases 2024.1 (29) to
2026.2 (34). It uses no code of Nova.
"""

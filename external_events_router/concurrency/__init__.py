"""Threads and waiting: pools with limits, ordered work, queries shared by several callers."""

"""The admin API: ``/admin/v1``, for operators and their programs.

``routes`` is the table of all operations; the WSGI application, the policy checks and the OpenAPI document
are built from it. The modules ``*_handlers`` decode, call one function of ``operations``, and encode.
"""

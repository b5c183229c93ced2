"""The journal: what was received, what became of it, and for which periods this record is complete.

``reasons`` and ``records`` are the data; ``recorder`` is called by the services, ``writer``
inserts rows, ``reads`` returns them, ``completeness`` states which periods have gaps, and
``retention`` deletes old rows.
"""

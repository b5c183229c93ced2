"""The journal: received requests, the results of their events, and the periods without gaps.

``reasons`` and ``records`` are the data; ``recorder`` is called by the services, ``writer``
inserts rows, ``reads`` returns them, ``completeness`` states which periods have gaps, and
``retention`` deletes old rows.
"""

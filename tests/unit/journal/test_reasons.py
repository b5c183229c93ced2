"""The closed lists of the journal."""

from external_events_router.db import models
from external_events_router.journal import reasons
from tests import base


class TestReasons(base.TestCase):
    def test_each_reason_has_a_code(self):
        self.assertEqual(set(reasons.Reason), set(reasons.CODES))

    def test_a_held_event_is_answered_200(self):
        self.assertEqual({200}, {int(reasons.CODES[reason]) for reason in reasons.HELD})

    def test_every_value_fits_its_column(self):
        for values in (reasons.Reason, reasons.Step, reasons.Refusal, reasons.GapReason):
            for value in values:
                self.assertLessEqual(len(value), models.NAME_LENGTH)

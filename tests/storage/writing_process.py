"""A process that keeps records until it is killed, and writes down the last one that was acknowledged."""

from __future__ import annotations

import os
import select
import sys
import time
from decimal import Decimal

from messages.ledger import RowChanged
from messages.orders import OrderState, OrderStatus
from storage.journal import Journal
from storage.store import Entry, Group
from tests import builders as b
from tests.storage.desk import opened

IN_FLIGHT = 200


def main(url: str) -> None:
    """Keep 200 records in flight for ever; each line on stdout is how many have been acknowledged."""
    journal = Journal(url, time.time_ns)
    journal.start()
    journal.append(Entry("k0", "B1-test", opened(b.definition()), 1))
    sent, done = 1, 0
    while True:
        while sent - done < IN_FLIGHT:
            event = RowChanged(
                bracket_id="B1-test", row_id="B1-test.entry", state=OrderState.PLACED, status=OrderStatus.ACTIVE,
                reason="", ts_ns=sent, filled_qty=Decimal(sent),
            )
            journal.append(Entry(f"k{sent}", "B1-test", event, sent))
            sent += 1
        select.select([journal.fileno()], [], [])
        done += sum(len(outcome.done) for outcome in journal.collect() if isinstance(outcome, Group))
        os.write(1, f"{done}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1])

"""Running a sweep: `Sweep` hands the jobs to the workers, and the journal holds what became of each."""

from host.sweep.running.canary import Canary
from host.sweep.running.driver import Sweep
from host.sweep.running.journal import JOURNAL_NAME, Journal, JournalError

__all__ = ["JOURNAL_NAME", "Canary", "Journal", "JournalError", "Sweep"]

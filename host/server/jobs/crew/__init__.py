"""Workers elsewhere that take the queue's prompts: each is an engine behind the methods of this process's executor."""

from host.server.jobs.crew.crew import Crew

__all__ = ["Crew"]

"""Verifying pictures: runs the prompt inside again, and compares what comes out with what was saved."""

"""Running a prompt: order, cache, calls of nodes, and the events about it.

Nothing is imported here: the events are read by processes that run no node, and the executor imports torch.
"""

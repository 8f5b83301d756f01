"""Engines: what runs the prompts of a sweep, or of the server's queue, one at a time.

An engine is this process's executor, a ComfyUI that is started here, or one that already runs. All have the methods of
`contract.Engine`, also when they live in another process or on another machine.
"""

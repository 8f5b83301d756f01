"""The limits on untrusted input, which `docs/host.md` and `docs/server.md` state.

Limits that only one module needs and no page mentions are defined in that module.
"""

MAX_PROMPT_NODES = 3000
MAX_PROMPT_DEPTH = 64  # nested lists and objects in a prompt
MAX_WORKFLOW_BYTES = 64 << 20  # a workflow file, or the picture that carries one
MAX_EDITOR_NODES = 20_000  # in one graph of the editor's format, and with every subgraph expanded
MAX_SUBGRAPH_DEPTH = 20  # subgraphs inside subgraphs

MAX_BODY_BYTES = 32 << 20  # a JSON request
MAX_JSON_DEPTH = 100  # nested lists and objects in a JSON request
MAX_JSON_VALUES = 300_000  # in a JSON request or an uploaded JSON file; 100 for each node of the largest workflow
MAX_UPLOAD_BYTES = 100 << 20
# For each pixel, `LoadImage` takes 20 bytes for one picture and up to 30 for an animation. Both stay below 1 GiB.
MAX_PICTURE_PIXELS = 45 << 20  # in one picture; a photo of 45 megapixels fits
MAX_ANIMATION_PIXELS = 32 << 20  # in all frames together
MAX_PICTURE_FRAMES = 1000
MAX_SETTINGS_BYTES = 4 << 20  # all settings of the editor together
MAX_WEBSOCKETS = 256
MAX_HEADER_SECONDS = 60.0  # until a request's headers are complete, from the connection or the previous answer on
MAX_BODY_PAUSE_SECONDS = 60.0  # without anything of a body that has begun

MAX_SWEEP_JOBS = 1_000_000
MAX_SWEEP_CELLS = 4_000_000  # values of all varying inputs together, each axis counted once
MAX_VALUES_BYTES = 64 << 20  # a file of values
MAX_VALUE_CHARACTERS = 100_000  # one value
MAX_SWEEP_INPUT_FILES = 10_000
MAX_SWEEP_INPUT_BYTES = 1 << 30  # of all input files of a sweep, which a driver holds in memory

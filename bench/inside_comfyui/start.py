"""What every script of this folder begins with: ComfyUI's modules in its own interpreter, and the pack in it.

Import it before anything of ComfyUI or torch. The command line is ``SCRIPT COMFYUI_PATH REQUEST``, where REQUEST is
JSON; a script prints one JSON object per line.
"""

import importlib
import importlib.util
import json
import os
import sys

COMFYUI, REQUEST = sys.argv[1], json.loads(sys.argv[2])
PACK = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[0] = COMFYUI
sys.argv = ["main.py", "--cpu"]
OUT, sys.stdout = sys.stdout, sys.stderr  # what ComfyUI prints must not end up between the answers

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
importlib.import_module("utils.extra_config")  # first, as in main.py: nodes.py puts another `utils` in front
import comfy.cli_args  # noqa: E402
import comfy.utils  # noqa: E402
import server  # noqa: E402, F401 (ComfyUI has imported it before it looks for packs)


def load_pack():
    """Import the pack as ComfyUI does; previews and progress on, as in the editor."""
    spec = importlib.util.spec_from_file_location("pack", os.path.join(PACK, "__init__.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = module
    spec.loader.exec_module(module)
    comfy.cli_args.args.preview_method = comfy.cli_args.LatentPreviewMethod.Auto
    comfy.utils.set_progress_bar_global_hook(lambda *_, **__: None)
    comfy.utils.PROGRESS_BAR_ENABLED = False
    return module.NODE_CLASS_MAPPINGS


def run(node, **inputs):
    """Run a node of the old kind or of the new one."""
    if hasattr(node, "define_schema"):
        return node.execute(**inputs).result
    answer = getattr(node(), node.FUNCTION)(**inputs)
    return answer["result"] if isinstance(answer, dict) else answer


def defaults(node):
    """Return the default of every input that has one."""
    declared = {name: spec for group in node.INPUT_TYPES().values() for name, spec in group.items()}
    return {name: spec[1]["default"] for name, spec in declared.items() if "default" in spec[1]}


def finish_replay():
    """Wait for what a run leaves to be done in the background."""
    pending = sys.modules["pack.nodes.editor.replay_sheet"].pending()
    if pending is not None:
        pending.result()


def answer(value):
    """Print one JSON object."""
    print(json.dumps(value), file=OUT, flush=True)

"""A pack is loaded as ComfyUI loads it, and described as ComfyUI describes it."""

from __future__ import annotations

import sys

import pytest

from host.packs import PackError, load_pack, pack_module_name


def test_a_pack_behind_a_lazy_door_is_loaded_under_comfyuis_module_name(registry, toy_pack):
    assert pack_module_name(toy_pack) == str(toy_pack).replace(".", "_x_")
    assert registry.nodes["ToyNumber"].__module__ == pack_module_name(toy_pack) + ".toy_nodes"
    assert registry.display_names["ToyNumber"] == "Toy Number"
    assert registry.web_directories == {"toy-pack.v1": toy_pack / "web"}
    assert registry.pack_directories == {"toy-pack.v1": toy_pack}
    assert {"LoadImage", "SaveImage", "PreviewImage"} <= set(registry.nodes)


def test_loading_a_pack_twice_gives_the_same_classes(registry, toy_pack):
    assert load_pack(toy_pack).nodes["ToyAdd"] is registry.nodes["ToyAdd"]


def test_a_pack_cannot_replace_a_stock_node(tmp_path, registry):
    (tmp_path / "__init__.py").write_text(
        "class Mine:\n    RETURN_TYPES = ()\nNODE_CLASS_MAPPINGS = {'SaveImage': Mine, 'Mine': Mine}\n"
    )
    loaded = load_pack(tmp_path)
    assert loaded.nodes["SaveImage"] is registry.nodes["SaveImage"]
    assert loaded.nodes["Mine"].RELATIVE_PYTHON_MODULE == f"custom_nodes.{tmp_path.name}"


def test_a_single_file_is_a_pack(tmp_path):
    file = tmp_path / "single.py"
    file.write_text("class Lone:\n    RETURN_TYPES = ()\nNODE_CLASS_MAPPINGS = {'Lone': Lone}\n")
    assert load_pack(file).nodes["Lone"].RELATIVE_PYTHON_MODULE == "custom_nodes.single"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "has no __init__.py"),
        ("x = 1\n", "declares no NODE_CLASS_MAPPINGS"),
        ("import no_such_module_here\n", "could not be imported: ModuleNotFoundError"),
        ("def __getattr__(name):\n    raise AttributeError('deep inside')\n", "deep inside"),
        ("NODE_CLASS_MAPPINGS = None\n", "declares no NODE_CLASS_MAPPINGS"),
    ],
)
def test_what_is_no_pack_is_refused_with_the_reason(tmp_path, source, message):
    if source is not None:
        (tmp_path / "__init__.py").write_text(source)
    with pytest.raises(PackError, match=message):
        load_pack(tmp_path)
    failed = source is not None and "no_such_module" in source
    assert (pack_module_name(tmp_path) in sys.modules) == (source is not None and not failed)


def test_object_info_has_comfyuis_shape(registry):
    info = registry.object_info("ToyNumber")
    inputs = info.pop("input")
    assert info == {
        "input_order": {"required": ["value", "seed", "mode"], "optional": ["label", "negate"]},
        "is_input_list": False,
        "output": ["FLOAT"],
        "output_is_list": [False],
        "output_name": ["number"],
        "output_tooltips": ["The number."],
        "name": "ToyNumber",
        "display_name": "Toy Number",
        "description": "Gives a number.",
        "python_module": "custom_nodes.toy-pack.v1",
        "category": "toy/numbers",
        "output_node": False,
        "has_intermediate_output": False,
        "search_aliases": ["constant"],
    }
    assert inputs["required"]["mode"] == [["plain", "double"]]
    assert inputs["required"]["seed"] == [
        "INT",
        {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True},
    ]


def test_object_info_has_the_flags_of_the_class_only_where_they_are_set(registry):
    assert registry.object_info("ToyPass") | {"deprecated": True, "experimental": True} == registry.object_info(
        "ToyPass"
    )
    assert not {"deprecated", "experimental", "dev_only", "api_node"} & set(registry.object_info("ToyAdd"))
    assert registry.object_info("ToyMiddle")["has_intermediate_output"] is True
    assert registry.object_info("ToySum")["is_input_list"] is True
    assert registry.object_info("SaveImage")["python_module"] == "nodes"
    assert registry.object_info("ToyAdd")["display_name"] == "ToyAdd"


def test_a_node_that_cannot_describe_itself_is_left_out_of_the_list(registry, tmp_path, caplog):
    (tmp_path / "__init__.py").write_text("class Odd:\n    RETURN_TYPES = ()\nNODE_CLASS_MAPPINGS = {'Odd': Odd}\n")
    everything = load_pack(tmp_path, registry).all_object_info()
    assert "Odd" not in everything
    assert set(registry.nodes) <= set(everything)
    assert "Odd" in caplog.text

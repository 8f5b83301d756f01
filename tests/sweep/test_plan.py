"""The plan of a sweep: its jobs, what is checked before the first one runs, and how it is stored."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from host import context
from host.engines.contract import EngineError
from host.folders import Folders, default_folders
from host.packs import Registry, load_pack
from host.strict_json import dumps, loads
from host.sweep.file_names import MAX_STEM_BYTES, file_stem
from host.sweep.input_files import InputFiles
from host.sweep.plan import Axis, SweepPlan, VaryingInput
from host.sweep.planning import PlanError, Planned, make_plan
from host.validation import validate
from host.workflows import Workflow
from tests.sweep.toy_host import GREY, make_toy_pack, node

KEY = "12345678-1234-5678-1234-567812345678"
NUMBER = {"1": node("ToyNumber", value=1.0, seed=0, mode="plain"), "2": node("ToyShow", value=["1", 0])}


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Registry:
    return load_pack(make_toy_pack(tmp_path_factory.mktemp("packs") / "toys"))


@pytest.fixture
def chosen(tmp_path):
    folders = default_folders(tmp_path)
    folders.input.mkdir()
    before = context.use_folders(folders)
    yield folders
    context.use_folders(before)


@pytest.fixture
def plan(registry, chosen):
    """Plan options of a prompt."""

    def make(*options, prompt=GREY, extra=None) -> Planned:
        return make_plan(Workflow(copy.deepcopy(prompt), extra or {}), "toys", list(options), registry, chosen)

    return make


def refused(plan, *options, **more) -> list[str]:
    with pytest.raises(PlanError) as error:
        plan(*options, **more)
    return str(error.value).splitlines()


# -- jobs


def test_later_axes_vary_fastest(plan):
    made = plan("1.grey=0..1:0.5", ["ToyImage.size=4,6", "SaveImage.filename_prefix=a,b"], "1.count=2").plan
    assert len(made) == 6
    assert [tuple(made.values(index).values()) for index in range(6)] == [
        (0.0, 4, "a"), (0.0, 6, "b"), (0.5, 4, "a"), (0.5, 6, "b"), (1.0, 4, "a"), (1.0, 6, "b"),
    ]  # fmt: skip
    assert list(made.values(0)) == ["1.grey", "ToyImage.size", "SaveImage.filename_prefix"]
    inputs = made.job(3).prompt["1"]["inputs"]
    assert inputs == {"grey": 0.5, "size": 6, "count": 2} and isinstance(inputs["grey"], float)
    assert made.job(3).prompt["2"]["inputs"]["filename_prefix"] == "b"
    assert made.file_stem(3) == "3_grey=0.5_size=6_filename_prefix=b"


def test_the_same_index_always_gives_the_same_job(plan):
    made = plan("1.size=1..12").plan
    before = [made.job(index) for index in range(12)]
    made.job(3).prompt["1"]["inputs"]["size"] = 99
    assert [made.job(index) for index in reversed(range(12))] == before[::-1]
    assert len({job.id for job in before}) == 12
    for index in (-1, 12):
        with pytest.raises(IndexError, match="numbered 0 to 11"):
            made.job(index)


def test_nothing_that_varies_is_a_single_job(plan):
    made = plan("1.size=4", "1.size=6", "1.grey=1..1").plan
    assert (len(made), made.axes, made.values(0)) == (1, (), {})
    assert made.job(0).prompt["1"]["inputs"] == {"grey": 1.0, "size": 6, "count": 1}


def test_the_editors_graph_is_kept_unless_values_were_set(plan):
    extra = {"workflow": {"nodes": []}}
    assert plan(extra=extra).plan.job(0).extra_data == {"extra_pnginfo": extra}
    assert plan("1.size=4,5", extra=extra).plan.job(0).extra_data == {}
    assert plan("1.size=4", extra=extra).plan.job(0).extra_data == {}


def test_a_million_jobs_are_planned_without_making_them(plan):
    options = ["1.size=1..64", "SaveImage.filename_prefix=" + ",".join(f"p{number}" for number in range(15_000))]
    made = plan(*options).plan
    assert len(made) == 960_000
    assert made.values(959_999) == {"1.size": 64, "SaveImage.filename_prefix": "p14999"}
    assert made.file_stem(7) == "000007_size=1_filename_prefix=p7"


# -- problems


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("1.size=60..70", "job 5 and 5 more (1.size=65): node 1 (ToyImage), input 'size': Value 65 bigger than max"),
        ("1.size=8,big,huge", "job 1 and 1 more (1.size=big): --set 1.size=8,big,huge: the input 'size' takes a whole"),
        ("1.size=8,8.5", "takes a whole number, got '8.5'"),
        ("1.grey=0..1:0.1,nan", "node 1 (ToyImage), input 'grey': Failed to convert"),
        ("3.mode=plain,odd", "job 1 (3.mode=odd): node 3 (ToyNumber), input 'mode': Value not in list"),
        ("3.negate=yes,no,perhaps", "the input 'negate' takes true or false, got 'perhaps'"),
        ("1.size=big", "--set 1.size=big: the input 'size' takes a whole number, got 'big'"),
        ("1.size=99", "node 1 (ToyImage), input 'size': Value 99 bigger than max of 64"),
        ("9.size=1,2", """--set 9.size=1,2: no node is called '9'; there are node 1 "Grey v1.5" (ToyImage)"""),
        ("1.sise=1,2", "node 1 (ToyImage) has no input 'sise'; it has grey, size, count"),
        ("2.images=1,2", "the input 'images' takes a IMAGE from another node"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_with_its_job(plan, option, message):
    lines = refused(plan, option)
    assert any(message in line for line in lines), lines
    assert len(lines) <= 2


def test_every_problem_of_every_job_is_reported_at_once(plan):
    lines = refused(plan, "1.size=0..9", "3.seed=-1,0", "1.grey=1,x")
    assert lines[0] == "toys cannot be run:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "job 0 and 3 more (1.size=0)",
        "job 0 and 19 more (3.seed=-1)",
        "job 1 and 19 more (1.grey=x)",
    ]


def test_what_is_wrong_in_every_job_is_said_without_a_job(plan):
    prompt = {**GREY, "4": node("ToyShow")}
    lines = refused(plan, "1.size=1..3", prompt=prompt)
    assert [line.strip() for line in lines[1:]] == ["node 4 (ToyShow), input 'value': Required input is missing"]
    lines = refused(plan, "1.size=1..3", prompt={**GREY, "4": node("Nope"), "5": node("No2")})
    assert "node 4: no class 'Nope' is known" in lines[1] and "'No2'" in lines[2] and "--engine" in lines[3]


def test_two_options_for_one_input_are_refused_where_it_varies(plan):
    assert "expected one option for each input that varies" in refused(plan, "1.size=1,2", "ToyImage.size=3")[0]
    assert "expected one option for each input that varies" in refused(plan, "1.size=3", "ToyImage.size=1,2")[0]


def test_many_kinds_of_problems_are_cut(plan):
    prompt = {str(number): node("ToyNumber", value=1.0, seed=0, mode="plain") for number in range(3, 50)}
    lines = refused(plan, *(f"{number}.seed=-1,0" for number in range(3, 20)), prompt={**GREY, **prompt})
    assert "jobs" not in lines[-1] and len(lines) == 18
    lines = refused(
        plan, ["1.size=1,2", *(f"{number}.seed=-1,0" for number in range(3, 50))], prompt={**GREY, **prompt}
    )
    assert lines[-1].strip() == "and 17 more" and len(lines) == 32


class Between:
    """A node that checks two of its inputs together."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        number = ("INT", {"default": 0})
        return {"required": {"low": number, "high": number, "other": number}}

    @classmethod
    def VALIDATE_INPUTS(cls, low, high):
        return True if low < high else "low must be below high"


def test_inputs_that_a_class_checks_together_are_checked_together(plan, registry, monkeypatch):
    monkeypatch.setitem(registry.nodes, "Between", Between)
    prompt = {"1": node("Between", low=0, high=9, other=0)}
    assert len(plan("1.low=0..2", "1.high=3..5", "1.other=0..4", prompt=prompt).plan) == 45
    lines = refused(plan, "1.low=0..2", "1.other=0..4", "1.high=2..5", prompt=prompt)
    assert lines[1].strip().startswith("job 40 and 4 more (1.low=2, 1.high=2): node 1 (Between), input 'low'")
    assert "low must be below high" in lines[1]


seeds = st.lists(st.integers(-3, 3) | st.just(2**64), min_size=1, max_size=3)
numbers = st.lists(st.sampled_from([0.5, -10.0, 10.0, 10.5, -11.0]), min_size=1, max_size=3)
modes = st.lists(st.sampled_from(["plain", "double", "treble"]), min_size=1, max_size=2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds, value=numbers, mode=modes)
def test_a_plan_is_refused_if_and_only_if_one_of_its_jobs_would_be(plan, registry, seed, value, mode):
    def alone(seed, value, mode) -> bool:
        inputs = {"value": value, "seed": seed, "mode": mode}
        return validate({**NUMBER, "1": node("ToyNumber", **inputs)}, registry).ok

    options = [
        f"1.{name}=" + ",".join(map(str, each)) for name, each in (("seed", seed), ("value", value), ("mode", mode))
    ]
    fit = [alone(each, number, word) for each in seed for number in value for word in mode]
    try:
        made = plan(*options, prompt=NUMBER).plan
    except PlanError:
        assert not all(fit)
        return
    assert all(fit) and len(made) == len(fit)
    assert all(
        validate(made.job(index).prompt, registry).prompt == made.job(index).prompt for index in range(len(made))
    )


# -- notes


def test_commas_that_split_a_text_are_pointed_out(plan):
    (note,) = plan("SaveImage.filename_prefix=a,b").notes
    assert "separate 2 values" in note and "'SaveImage.filename_prefix=\"a, b\"'" in note
    assert plan("SaveImage.filename_prefix='a,b'", "1.size=1,2").notes == ()


def test_an_input_that_changes_nothing_is_pointed_out(plan):
    assert plan("3.seed=0..2").notes == ("3.seed changes no result: no output depends on node 3",)


# -- input files


def picture(path: Path, colour: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)


LOAD = {"1": node("LoadImage", image="a.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}


def test_files_that_jobs_name_are_collected_once(plan, chosen: Folders):
    for name in ("a.png", "below/b.png", "unused.png"):
        picture(chosen.input / name, "red")
    picture(chosen.output / "old.png", "blue")
    made = plan("1.image=a.png,below/b.png,old.png [output]", "2.filename_prefix=x,y", prompt=LOAD).plan
    files = InputFiles(made.input_files, chosen)
    assert list(files) == ["a.png", "below/b.png", "old.png [output]"]
    assert files["old.png [output]"] == (chosen.output / "old.png").read_bytes()
    files.check()
    picture(chosen.input / "a.png", "green")
    with pytest.raises(EngineError, match="'a.png' has changed since the sweep was planned"):
        files.check()
    (chosen.input / "a.png").unlink()
    with pytest.raises(EngineError, match="'a.png' of the plan can no longer be read"):
        files.check()


def test_a_file_that_is_not_there_is_refused(plan, chosen: Folders):
    picture(chosen.input / "a.png", "red")
    lines = refused(plan, "1.image=a.png,none.png,../outside.png", prompt=LOAD)
    assert lines[1].strip().startswith("job 1 and 1 more (1.image=none.png): node 1 (LoadImage), input 'image'")


def test_the_value_of_a_single_run_is_sent_too(plan, chosen: Folders):
    picture(chosen.input / "a.png", "red")
    assert [file.name for file in plan(prompt=LOAD).plan.input_files] == ["a.png"]


# -- the stored definition


def test_a_plan_is_the_same_after_it_was_stored(plan, chosen: Folders):
    picture(chosen.input / "a.png", "red")
    made = plan("2.filename_prefix=x,'ü, 1'", prompt=LOAD).plan
    stored = SweepPlan.from_definition(json.loads(dumps(made.definition())))
    assert stored == made and stored.input_files[0].name == "a.png"
    assert [stored.job(index) for index in range(2)] == [made.job(index) for index in range(2)]


scalars = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.text()


@given(st.lists(st.lists(scalars, min_size=2, max_size=4), min_size=1, max_size=3))
def test_any_values_survive_being_stored(columns):
    axes = [Axis((VaryingInput(f"N.{n}", "1", f"i{n}", tuple(values)),)) for n, values in enumerate(columns)]
    made = SweepPlan("x", {"1": node("X")}, tuple(axes), {}, (), KEY)
    stored = SweepPlan.from_definition(loads(dumps(made.definition())))
    assert stored.values(len(stored) - 1) == made.values(len(made) - 1)
    assert [stored.file_stem(index) for index in range(len(stored))] == [made.file_stem(i) for i in range(len(made))]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"key": "x"},
        {"axes": 5},
        {"axes": [[{"target": "A.x", "node_id": "7", "name": "x", "values": "[1, 2]"}]]},
        {"axes": [[{"target": "A.x", "node_id": "1", "name": "x", "values": "{}"}]]},
        {"axes": [[]]},
        {"input_files": [{}]},
        {"prompt": []},
        {"prompt": {}, "axes": []},
    ],
)
def test_a_damaged_definition_is_refused(plan, change):
    definition = {**plan("1.size=1,2").plan.definition(), **change}
    with pytest.raises(ValueError, match="plan"):
        SweepPlan.from_definition(definition)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("[1, 2]"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = ["format", "name", "prompt", "axes", "extra_data", "input_files", "key"]
parts = st.fixed_dictionaries({name: json_values for name in ("target", "node_id", "name", "values")})


@example(change={"prompt": {}, "axes": []}, whole=None)
@given(change=st.dictionaries(st.sampled_from(KEYS), json_values | st.lists(st.lists(parts))), whole=json_values)
def test_any_definition_is_read_or_refused(change, whole):
    axes = (Axis((VaryingInput("A.x", "1", "x", (1, 2)),)),)
    definition = SweepPlan("x", {"1": node("X")}, axes, {}, (), KEY).definition()
    for given_definition in ({**definition, **change}, whole):
        try:
            read = SweepPlan.from_definition(given_definition)
        except ValueError as error:
            assert len(str(error)) < 500
            continue
        assert all(read.job(index).prompt and read.file_stem(index) for index in range(len(read)))


# -- file names


def test_the_names_of_files():
    values = {"DDIMSample.seed": 7, "Model.cfg": 1.5, "A.flag": True, "B.whole": 3.0}
    assert file_stem(7, 1001, values) == "0007_seed=7_cfg=1.5_flag=true_whole=3"
    assert file_stem(0, 10, {"A.x": 1, "B.x": 2}) == "0_A.x=1_B.x=2"
    assert file_stem(3, 10, {"A.text": 'a <b>: "c"/d\\e|f?*\n'}) == "3_text=a-b-c-d-e-f"
    assert file_stem(3, 10, {"A.text": ""}) == "3_text="
    assert file_stem(3, 10, {"A.text": "..."}) == "3_text="


any_text = st.text(st.characters(exclude_categories=[]), max_size=80)


@given(
    index=st.integers(0, 99),
    values=st.dictionaries(st.builds("{}.{}".format, any_text, any_text), any_text, max_size=8),
)
def test_any_values_give_a_name_that_every_file_system_takes(index, values):
    stem = file_stem(index, 100, values)
    assert stem.startswith(f"{index:02}")
    assert re.fullmatch(r"[\w.+,=-]+", stem) and not stem.endswith((".", " "))
    assert len(stem.encode()) <= MAX_STEM_BYTES

"""What `--set` and `--zip` mean: ranges, lists, quotes and files of values."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.limits import MAX_SWEEP_JOBS, MAX_VALUE_CHARACTERS
from host.sweep.values import ValuesError, read_axes
from host.sweep.values.grammar import GrammarError, parse_assignment


def values_of(text: str) -> list[str]:
    values = parse_assignment(f"Node.input={text}").values
    assert values is not None
    assert values.count == len(list(values))
    return list(values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("7", ["7"]),
        ("", [""]),
        ("0..4", ["0", "1", "2", "3", "4"]),
        ("0..10:3", ["0", "3", "6", "9"]),
        ("10..0:-5", ["10", "5", "0"]),
        ("3..1", ["3", "2", "1"]),
        ("5..5", ["5"]),
        ("-1..1", ["-1", "0", "1"]),
        ("0.1..0.5:0.1", ["0.1", "0.2", "0.3", "0.4", "0.5"]),
        ("-0.2..0.2:0.1", ["-0.2", "-0.1", "0", "0.1", "0.2"]),
        ("1..2:0.5", ["1", "1.5", "2"]),
        ("0.5..2.5", ["0.5", "1.5", "2.5"]),
        ("1,5,7..9", ["1", "5", "7", "8", "9"]),
        ("a, b ,c", ["a", "b", "c"]),
        (" alone ", [" alone "]),
        ("x,,y", ["x", "", "y"]),
        ('"a, b",c', ["a, b", "c"]),
        ("'1..3','4'", ["1..3", "4"]),
        ("'it''s'", ["it's"]),
        ('"say ""no"""', ['say "no"']),
        ("it's, so", ["it's", "so"]),
        ("18446744073709551614..18446744073709551615", ["18446744073709551614", "18446744073709551615"]),
        ("[[0,0],[1,1]]", ["[[0,0],[1,1]]"]),
        ('{"a": 1, "b": 2},3', ['{"a": 1, "b": 2}', "3"]),
        ("{red,blue} car", ["{red", "blue} car"]),
        ("1...3", ["1...3"]),
        ("a..b", ["a..b"]),
        ("v1.5", ["v1.5"]),
        ("x=1,y=2", ["x=1", "y=2"]),
    ],
)
def test_values(text, values):
    assert values_of(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "--set expects NODE.INPUT=VALUE, or @FILE with a column for each input, got 'nonsense'"),
        ("a=b.c", "expects NODE.INPUT=VALUE"),
        ("A.x=0..5:0", "0..5:0: expected a step other than 0"),
        ("A.x=0..5:-1", "expected a positive step from 0 to 5, got -1"),
        ("A.x=5..0:1", "expected a negative step from 5 to 0, got 1"),
        ("A.x=0..0.5", "steps by 1 and would miss its end; give a step, as in 0..0.5:0.1"),
        ('A.x="open', 'expected a closing "'),
        ('A.x="a"b', "expected a comma or the end after a closing \", got 'b'"),
        ("A.x=@", "expected a file's name after @"),
    ],
)
def test_what_is_refused_is_explained(text, message):
    with pytest.raises(GrammarError) as refused:
        parse_assignment(text)
    assert message in str(refused.value)


decimals = st.decimals(-1000, 1000, places=3, allow_nan=False, allow_infinity=False)


@given(first=decimals, step=decimals.filter(bool), steps=st.integers(0, 50), rest=st.integers(0, 999))
def test_a_range_is_exact(first, step, steps, rest):
    """It has every number from its beginning to the last that is not beyond its end, and nothing else."""
    last = first + step * steps + step * rest / 1000
    found = [Decimal(text) for text in values_of(f"{first:f}..{last:f}:{step:f}")] if first != last else [first]
    assert found == [first + step * number for number in range(steps + 1)]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=5))
def test_any_texts_survive_quotes(texts):
    for quote in "\"'":
        written = ",".join(f"{quote}{text.replace(quote, 2 * quote)}{quote}" for text in texts)
        assert values_of(written) == texts


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        values = parse_assignment(f"A.x={text}").values
    except GrammarError as error:
        assert len(str(error)) < 500
        return
    assert values is None or values.count >= 1


def test_a_huge_range_is_counted_and_refused_before_it_is_written_out():
    with pytest.raises(ValuesError, match=r"make 1,000,000,000,001 jobs .*at most 1,000,000"):
        read_axes(["A.x=0..1000000000000"])
    with pytest.raises(ValuesError, match=r"make 100,000,000 jobs \(A\.x: 10,000 x B\.y: 10,000\)"):
        read_axes(["A.x=1..10000", "B.y=1..10000"])
    assert read_axes([f"A.x=1..{MAX_SWEEP_JOBS}"])[0].count == MAX_SWEEP_JOBS


# -- axes


def as_lists(options) -> list[dict[str, list[str]]]:
    return [{column.target: list(column.values) for column in axis.columns} for axis in read_axes(options)]


def test_options_are_combined_and_zip_varies_together():
    assert as_lists(["A.x=1,2", ["B.y=1..3", "C.z=a,b,c"], "D.w=7"]) == [
        {"A.x": ["1", "2"]},
        {"B.y": ["1", "2", "3"], "C.z": ["a", "b", "c"]},
        {"D.w": ["7"]},
    ]


def test_zip_wants_equally_many():
    with pytest.raises(ValuesError, match="same number of values for each input; A.x has 2, B.y has 3"):
        read_axes([["A.x=1,2", "B.y=1..3"]])


@pytest.fixture
def write(tmp_path):
    def write_file(name: str, text: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write_file


def test_a_text_file_has_a_value_on_each_line(write):
    file = write("prompts.txt", "a cat, red\n\n  a dog  \r\n1..3\n\ufeff")
    assert as_lists([f"A.x=@{file}"])[0]["A.x"][:3] == ["a cat, red", "a dog", "1..3"]


def test_columns_of_a_table_by_name(write):
    file = write("t.csv", '\ufeffA.x,y,z\n1,"a, b",7\n2,"say ""no""",8\n')
    assert as_lists([f"A.x=@{file}", "C.w=1,2", f"B.y=@{file}"]) == [
        {"A.x": ["1", "2"], "B.y": ["a, b", 'say "no"']},
        {"C.w": ["1", "2"]},
    ]
    with pytest.raises(ValuesError, match=r"has no column called 'A\.q' or 'q'; it has \['A\.x', 'y', 'z'\]"):
        read_axes([f"A.q=@{file}"])
    only = write("one.csv", "whatever\n5\n6\n")
    assert as_lists([f"A.q=@{only}"]) == [{"A.q": ["5", "6"]}]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_whole_table_names_its_inputs(write, ending):
    rows = [{"A.x": 1, "B.y": "a, b"}, {"A.x": 2, "B.y": "c"}]
    text = 'A.x,B.y\n1,"a, b"\n2,c\n' if ending == "csv" else "\n".join(map(json.dumps, rows))
    assert as_lists([f"@{write(f't.{ending}', text)}"]) == [{"A.x": ["1", "2"], "B.y": ["a, b", "c"]}]


def test_values_of_json_lines_are_what_one_would_write(write):
    file = write("t.jsonl", '{"v": 0.1}\n{"v": 7}\n\n{"v": true}\n{"v": [1, 2]}\n{"v": "1..3"}\n')
    assert as_lists([f"A.v=@{file}"]) == [{"A.v": ["0.1", "7", "true", "[1, 2]", "1..3"]}]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "\n \n", "holds no values"),
        ("t.txt", b"\xff\xfe\x00", "is not UTF-8 text: byte 0 cannot be read"),
        ("t.txt", "x" * (MAX_VALUE_CHARACTERS + 1), "line 1: a value has 100001 characters"),
        ("t.csv", "A.x,B.y\n1\n", "line 2: expected 2 values as in the first line, got 1"),
        ("t.csv", "A.x,A.x\n1,2\n", "a different name for each column, got 'A.x'"),
        ("t.csv", "A.x,\n1,2\n", "a different name for each column, got ''"),
        ("t.csv", 'A.x\n"a"b\n', "line 2: not valid CSV"),
        ("t.csv", "A.x\n", "holds no values"),
        ("t.jsonl", "[1]\n", "line 1: expected a JSON object with a key for each input, got [1]"),
        ("t.jsonl", '{"a": 1}\n{"b": 1}\n', "line 2: expected the keys of the first line; ['a', 'b'] differ"),
        ("t.jsonl", '{"a": null}\n', "line 1: 'a' is null"),
        ("t.jsonl", '{"a": 1}\n{"a" 2}\n', "t.jsonl, line 2, column 6: not valid JSON: Expecting ':' delimiter"),
        ("t.jsonl", '{"a": ' * 5000 + "\n", "line 1: not valid JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(write, name, text, message):
    file = write(name, text)
    with pytest.raises(ValuesError) as refused:
        read_axes([f"A.x=@{file}"])
    assert message in str(refused.value) and file in str(refused.value)


def test_a_whole_table_needs_names_of_inputs(write):
    unnamed = write("t.csv", "x\n1\n")
    with pytest.raises(ValuesError, match="expected columns called NODE.INPUT, got 'x'"):
        read_axes([f"@{unnamed}"])
    with pytest.raises(ValuesError, match=r"expects a \.csv or \.jsonl file"):
        read_axes([f"@{write('t.txt', '1')}"])


def test_a_file_that_is_not_there_or_too_large(tmp_path: Path):
    with pytest.raises(ValuesError, match="there is no file"):
        read_axes([f"A.x=@{tmp_path / 'none.txt'}"])
    with pytest.raises(ValuesError, match="cannot be read"):
        read_axes([f"A.x=@{tmp_path}"])
    with (tmp_path / "big.txt").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(ValuesError, match="a file of values has at most 64"):
        read_axes([f"A.x=@{tmp_path / 'big.txt'}"])

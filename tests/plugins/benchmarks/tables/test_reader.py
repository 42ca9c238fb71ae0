"""Users' tables from CSV, gzipped CSV and Parquet, and errors of malformed ones."""

from __future__ import annotations

import gzip
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from automl_nas.errors import ConfigurationError, DataError, SpaceError
from automl_nas.space.decisions import Choice, Ordinal
from automl_nas.space.space import SearchSpace
from automl_nas.testing import SearchSpaceContract
from automl_nas_benchmarks.tables.reader import TableSource, read_table
from automl_nas_benchmarks.tables.table_space import TableSpace

CODES = "arch,accuracy,latency,note\n0001,91.5,3.25,\n0010,92.25,-1,slow\n0100,,4,\n"
COLUMNS = "width,kernel,act,accuracy\n8,3,relu,1\n16,3,relu,2\n8,5,gelu,3\n16,5,gelu,4\n128,5,relu,5\n"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def made(text: str, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return made


def parquet(path: Path, columns: dict[str, list[object]]) -> Path:
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    writer.write_table(arrow.table(columns), path)
    return path


def test_read_table_keeps_leading_zeros_and_missing_values(write: Write) -> None:
    table = read_table(TableSource(write(CODES), codes="arch", absent=("-1",), lower_is_better=("latency",)))
    assert table.codes == ("0001", "0010", "0100")
    assert list(table.coding.decisions) == ["choice_1", "choice_2", "choice_3", "choice_4"]
    assert table.coding.decisions["choice_4"] == Choice(("0", "1"))
    assert table.coding.decisions["choice_1"] == Choice(("0",))
    assert table.columns["accuracy"].values.tolist()[:2] == [91.5, 92.25]
    assert math.isnan(table.columns["accuracy"].values[2])
    assert math.isnan(table.columns["latency"].values[1])
    assert table.columns["latency"].better == "lower"
    assert not table.complete


def test_read_table_formats_agree(write: Write, tmp_path: Path) -> None:
    plain = read_table(TableSource(write(CODES), codes="arch"))
    zipped = tmp_path / "table.csv.gz"
    zipped.write_bytes(gzip.compress(b"\xef\xbb\xbf" + CODES.encode()))  # with a byte order mark, as spreadsheets write
    columns: dict[str, list[object]] = {
        "arch": ["0001", "0010", "0100"],
        "accuracy": [91.5, 92.25, None],
        "latency": [3.25, -1.0, 4.0],
        "note": ["", "slow", ""],
    }
    for path in (zipped, parquet(tmp_path / "table.parquet", columns)):
        table = read_table(TableSource(path, codes="arch"))
        assert table.codes == plain.codes
        for name in ("accuracy", "latency"):
            assert str(table.columns[name].values.tolist()) == str(plain.columns[name].values.tolist())
        with pytest.raises(DataError, match=r"'note' .* cannot be used: row 2 has 'slow'"):
            table.lookup("note")


def test_read_table_with_decisions_in_columns(write: Write) -> None:
    source = TableSource(write(COLUMNS), decisions=("width", "kernel", "act"), ordered=("width",))
    table = read_table(source)
    assert table.coding.decisions == {
        "width": Ordinal((8, 16, 128)),
        "kernel": Choice(("3", "5")),
        "act": Choice(("gelu", "relu")),
    }
    space = TableSpace(path=source.path, decisions=source.decisions, ordered=source.ordered)
    architecture = space.validate({"width": 128, "kernel": "5", "act": "relu"})
    assert table.lookup("accuracy")(architecture) == 5.0
    assert space.architecture(space.code(architecture)) == architecture
    with pytest.raises(SpaceError, match=r"has no row for '128\|3\|relu' \(it has 5\)"):
        table.row(space.validate({"width": 128, "kernel": "3", "act": "relu"}))


def test_read_table_with_symbols_of_several_characters(write: Write) -> None:
    table = read_table(TableSource(write("net,a\nk3-e6,1\nk5-e6,2\n"), codes="net", separator="-"))
    assert table.coding.decisions == {"choice_1": Choice(("k3", "k5")), "choice_2": Choice(("e6",))}


def test_read_table_with_options_that_contain_the_separator(write: Write) -> None:
    table = read_table(TableSource(write("op,n,a\nx|y,1,1\nx,1,2\n"), decisions=("op", "n")))
    assert [table.columns["a"].values[table.find(code)] for code in table.codes] == [1.0, 2.0]


def test_read_table_reads_a_changed_file_again(write: Write) -> None:
    path = write("arch,a\n00,1\n01,2\n")
    assert len(read_table(TableSource(path, codes="arch"))) == 2
    path.write_text("arch,a\n00,1\n01,2\n10,3\n", encoding="utf-8")
    assert len(read_table(TableSource(path, codes="arch"))) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arch,a\n01,1\n01,2\n", "the code '01' more than once"),
        ("arch,a\n0001,1\n10,2\n0100,3\n", r"2 symbols in row 2, '10', and elsewhere 4; leading zeros count"),
        ("arch,a\nab,1\nabc,2\nxy,2\n", "3 symbols in row 2, 'abc', and elsewhere 2; set 'separator'"),
        ("arch,a\n421211.0,1\n333132.0,2\n", "the number '421211.0' in row 1: .* leading zeros are lost"),
        ("arch,a\n4.2e+05,1\n", "the number"),
        ("arch,a\n00,1\n,2\n", "is empty in row 2"),
        ("arch,a\n00,1,5\n", "row 1 .* has 3 cells for 2 columns"),
        ("arch,a\n", "has no rows"),
        ("", "has no rows"),
        ("arch,a,a\n00,1,2\n", "more than one column 'a'"),
        ('arch,a\n00,"1\n', "cannot be read as CSV"),
    ],
)
def test_read_table_refuses_malformed_tables(write: Write, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(TableSource(write(text), codes="arch"))


@pytest.mark.parametrize("cell", ["fast", "inf", "1_000", "1,5"])
def test_read_table_names_cells_that_are_not_numbers(write: Write, cell: str) -> None:
    table = read_table(TableSource(write(f'arch,a,b\n00,1,2\n01,"{cell}",3\n'), codes="arch"))
    assert table.lookup("b").values == [2.0, 3.0]
    with pytest.raises(DataError, match=f"row 2 has '{cell}', which is not a finite number"):
        table.lookup("a")


def test_read_table_settings_are_checked(write: Write) -> None:
    path = write(CODES)
    with pytest.raises(ConfigurationError, match="no column 'archs'; did you mean 'arch'"):
        read_table(TableSource(path, codes="archs"))
    with pytest.raises(ConfigurationError, match="no column 'latncy'; did you mean 'latency'"):
        read_table(TableSource(path, codes="arch", lower_is_better=("latncy",)))
    with pytest.raises(ConfigurationError, match="its columns are arch, accuracy, latency, note"):
        read_table(TableSource(path))
    with pytest.raises(ConfigurationError, match="set either 'codes'"):
        read_table(TableSource(path, codes="arch", decisions=("accuracy",)))
    with pytest.raises(ConfigurationError, match="no decision 'choice_9'"):
        read_table(TableSource(path, codes="arch", ordered=("choice_9",)))
    with pytest.raises(DataError, match=r"is ordered, but '(relu|gelu)' is not a number"):
        read_table(TableSource(write(COLUMNS), decisions=("act",), ordered=("act",)))
    with pytest.raises(DataError, match=r"writes 1\.0 in two ways"):
        read_table(TableSource(write("w,a\n1,1\n1.0,2\n"), decisions=("w",), ordered=("w",)))


def test_read_table_of_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.csv cannot be read: No such file"):
        read_table(TableSource(tmp_path / "missing.csv", codes="arch"))
    for name in ("broken.csv.gz", "broken.parquet"):
        path = tmp_path / name
        path.write_bytes(b"arch,a\n")
        with pytest.raises(DataError, match=f"{name} cannot be read as"):
            read_table(TableSource(path, codes="arch"))
    latin = tmp_path / "latin.csv"
    latin.write_bytes("arch,größe\n00,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read as CSV in UTF-8"):
        read_table(TableSource(latin, codes="arch"))


def test_read_table_refuses_numbers_as_codes_in_parquet(tmp_path: Path) -> None:
    path = parquet(tmp_path / "numbers.parquet", {"arch": [421211, 12], "a": [1.0, 2.0]})
    with pytest.raises(
        DataError, match=r"has 421211 in row 1, but a code must be a string .* write the column as text"
    ):
        read_table(TableSource(path, codes="arch"))


def test_read_table_accepts_numbers_as_decisions_in_parquet(tmp_path: Path) -> None:
    path = parquet(tmp_path / "numbers.parquet", {"width": [8, 16], "bias": [True, False], "a": [1.0, 2.0]})
    table = read_table(TableSource(path, decisions=("width", "bias"), ordered=("width",)))
    assert table.coding.decisions == {"width": Ordinal((8, 16)), "bias": Choice(("False", "True"))}


def test_read_table_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"pip install 'automl-nas\[benchmark\]'"):
        read_table(TableSource(path, codes="arch"))


class TestTableSpace(SearchSpaceContract):
    def make_space(self) -> SearchSpace:
        path = self.folder() / "table.csv"
        path.write_text(COLUMNS, encoding="utf-8")
        return TableSpace(path=path, decisions=("width", "kernel", "act"), ordered=("width",))

    def test_table_space_has_no_networks(self) -> None:
        space = self.make_space()
        with pytest.raises(SpaceError, match="a table has no networks to build"):
            space.build(self.architectures(space)[0])

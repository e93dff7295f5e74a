"""`POD(path, type=...)` with models of msgspec and of pydantic."""

from __future__ import annotations

import datetime as dt
import enum
import pickle
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest

from tastypy import POD, UnstorableValueError, WrongTypeError

pytest.importorskip("msgspec")
pytest.importorskip("pydantic")

import msgspec
import pydantic
import pydantic.dataclasses

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOW = dt.datetime(2024, 2, 29, 12, 30, 15, 123456, dt.UTC)


class Colour(enum.Enum):
    """JSON has no enums."""

    RED = "red"


class StructPart(msgspec.Struct):
    """A part of a Struct."""

    name: str
    seconds: float = 0.0


class Struct(msgspec.Struct):
    """What msgspec can hold."""

    score: float
    when: dt.datetime | None = None
    tags: set[str] = set()
    parts: list[StructPart] = []
    by_number: dict[int, str] = {}
    data: bytes = b""
    colour: Colour = Colour.RED
    id: UUID = UUID(int=0)
    level: Annotated[int, msgspec.Meta(ge=0)] = 0


class Open(msgspec.Struct):
    """A Struct of anything."""

    part: Any


class Forbidding(msgspec.Struct, forbid_unknown_fields=True):
    """A Struct that takes no other fields."""

    score: float


class ModelPart(pydantic.BaseModel):
    """A part of a Model."""

    name: str
    seconds: float = 0.0


class Model(pydantic.BaseModel):
    """What pydantic can hold."""

    score: float
    when: dt.datetime | None = None
    tags: set[str] = set()
    parts: list[ModelPart] = []
    by_number: dict[int, str] = {}
    colour: Colour = Colour.RED
    id: UUID = UUID(int=0)
    price: Decimal = Decimal(0)
    level: int = pydantic.Field(default=0, ge=0, alias="grade")

    @pydantic.computed_field
    def doubled(self) -> float:
        """Twice the score."""
        return self.score * 2


class Strict(pydantic.BaseModel):
    """A model that converts nothing."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid", frozen=True)

    when: dt.datetime
    tags: tuple[str, ...] = ()


@pydantic.dataclasses.dataclass
class Checked:
    """A dataclass that pydantic checks."""

    score: float
    when: dt.date


@dataclass
class Mixed:
    """A plain dataclass of models."""

    struct: Struct
    models: list[Model] = field(default_factory=list)


class Rounding(pydantic.BaseModel):
    """A model that loses something."""

    x: float

    @pydantic.field_serializer("x")
    def shorten(self, x: float) -> float:
        """Lose something."""
        return round(x, 1)


class Scores(pydantic.BaseModel):
    """A model of parts whose types can be mistaken."""

    whole: int = 0
    part: float = 0
    many: list[int] = []
    choice: set[int | str] = set()


class Fussy(pydantic.BaseModel):
    """A model that raises when it is compared."""

    x: int

    __hash__ = None  # type: ignore[assignment]  # as for any model that can be changed

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError


class Unequal(msgspec.Struct, eq=False):
    """A Struct that compares by identity."""

    x: int


STRUCT = Struct(1.5, NOW, {"a", "b"}, [StructPart("p", 2.0)], {1: "one"}, b"\x00\xff", Colour.RED, UUID(int=7), 3)
MODEL = Model(
    score=1.5,
    when=NOW,
    tags={"a", "b"},
    parts=[ModelPart(name="p")],
    by_number={1: "one"},
    id=UUID(int=7),
    price=Decimal("1.10"),
    grade=3,
)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(STRUCT, id="Struct"),
        pytest.param(MODEL, id="Model"),
        pytest.param(Strict(when=NOW, tags=("a",)), id="Strict"),
        pytest.param(Checked(1.5, dt.date(2024, 2, 29)), id="Checked"),
        pytest.param(Mixed(STRUCT, [MODEL]), id="Mixed"),
    ],
)
def test_a_model_comes_back_from_the_disk_equal(path: Path, value: Any) -> None:
    kind = type(value)
    with POD(path, type=kind) as pod:
        pod["a"] = value
        assert pod["a"] == value
        assert pod["a"] is not value
        assert type(POD(path)["a"]) is dict
        pod.sync()
        again = pickle.loads(pickle.dumps(pod))
        assert again["a"] == value
        assert type(again["a"]) is kind
        again["b"] = value
        assert pod.refresh() == {"b"}
        for _ in range(3):  # so that all is read anew
            again["c"] = value
            again.sync()
        assert pod.refresh() == {"c"}


def test_what_is_in_the_file_are_the_fields(path: Path) -> None:
    POD(path, type=Model)["a"] = MODEL
    plain = POD[str, Any](path)["a"]
    assert plain.keys() == {"score", "when", "tags", "parts", "by_number", "colour", "id", "price", "grade"}
    assert plain["when"] == "2024-02-29T12:30:15.123456Z"


def broken(value: Any, **fields: Any) -> Any:
    """The value with fields that its class was never asked about."""
    for name, part in fields.items():
        setattr(value, name, part)
    return value


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Struct, broken(Struct(1), score="x"), "the value of 'a': field 'score': Expected `float`, got `str`"),
        (
            Struct,
            Struct(1, parts=[broken(StructPart("a"), name=1)]),
            r"the value of 'a': field 'parts\[0\].name': Expected `str`, got `int`",
        ),
        (Struct, Struct(1, level=-1), "the value of 'a': field 'level': Expected `int` >= 0"),
        (Struct, {"score": 1.5}, "the value of 'a' must be Struct, not {'score': 1.5}"),
        (Struct, broken(Struct(1), tags=object()), "the value of 'a' cannot be written as JSON: .*object"),
        (Struct, broken(Struct(1.5), by_number={"1": "a"}), "the value of 'a' would come back as Struct"),
        (Open, Open((1, 2)), r"would come back as Open\(part=\[1, 2\]\), not Open\(part=\(1, 2\)\)"),
        (Model, {"score": 1.5}, "the value of 'a' must be Model, not {'score': 1.5}"),
        (
            Model,
            Model.model_construct(score="x"),
            "the value of 'a': field 'score': Input should be a valid number, .*, not 'x'",
        ),
        (
            Model,
            Model.model_construct(score=1, parts=[ModelPart.model_construct(name=1)]),
            r"the value of 'a': field 'parts\[0\].name': Input should be a valid string, not 1",
        ),
        (Model, Model.model_construct(score="x", level=-1), r"'score': .* \(and 1 more\), not 'x'"),
        (Model, Model.model_construct(score="1.5"), "the value of 'a' would come back as Model"),
        (Rounding, Rounding(x=1.25), r"the value of 'a' would come back as Rounding\(x=1.2\), not Rounding\(x=1.25\)"),
        (Scores, broken(Scores(), whole=True), "would come back as Scores.whole=1,"),
        (Scores, broken(Scores(), whole=1.0), "would come back as Scores.whole=1,"),
        (Scores, broken(Scores(), many=[0, True]), r"would come back as Scores.*many=\[0, 1\]"),
        (Fussy, Fussy(x=1), "the value of 'a' cannot be compared: ArithmeticError"),
        (
            Mixed,
            Mixed(broken(Struct(1), score="x")),
            "the value of 'a': field 'struct.score': Expected `float`, got `str`",
        ),
        (
            Checked,
            broken(Checked(1, dt.date(2024, 2, 29)), score="x"),
            "the value of 'a': field 'score': Input should be",
        ),
    ],
)
def test_a_wrong_field_is_told_and_nothing_changes(path: Path, kind: Any, value: Any, message: str) -> None:
    with POD[str, Any](path, type=kind) as pod:
        with pytest.raises(WrongTypeError, match=message):
            pod["a"] = value
        assert pod == {}
    assert POD[str, Any](path) == {}


def test_a_float_of_a_model_may_be_assigned_an_int_and_a_set_has_no_order(path: Path) -> None:
    value = broken(Scores(choice={8, 0, "b", "a", 16}), part=2)
    with POD(path, type=Scores) as pod:
        pod["a"] = value
        assert pod["a"] == value


@pytest.mark.parametrize("value", [Struct(float("nan")), Model(score=float("nan"))], ids=["msgspec", "pydantic"])
def test_what_json_lacks_is_refused_as_ever(path: Path, value: Any) -> None:
    with (
        POD(path, type=type(value)) as pod,
        pytest.raises(UnstorableValueError, match=r"value of 'a'\['score'\] is NaN"),
    ):
        pod["a"] = value


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Struct, {"score": "x"}, "the value of 'a': field 'score': Expected `float`, got `str`"),
        (Struct, {}, "the value of 'a': Object missing required field `score`"),
        (
            Struct,
            {"score": 1, "by_number": {"x": "a"}},
            "the value of 'a': field 'by_number': Expected `int`, got `str`",
        ),
        (Forbidding, {"score": 1, "x": 1}, "the value of 'a': Object contains unknown field `x`"),
        (Model, {"score": "x"}, "the value of 'a': field 'score': Input should be a valid number, .*, not 'x'"),
        (Model, {"score": 1, "grade": -1}, "the value of 'a': field 'grade': Input should be greater"),
        (
            Strict,
            {"when": "2024-01-01T00:00:00Z", "x": 1},
            "the value of 'a': field 'x': Extra inputs are not permitted",
        ),
        (
            Mixed,
            {"struct": {"score": 1}, "models": [{}]},
            r"the value of 'a': field 'models\[0\].score': Field required",
        ),
    ],
)
def test_what_a_directory_has_and_the_model_does_not_take_is_told(
    path: Path, kind: Any, value: Any, message: str
) -> None:
    POD[str, Any](path)["a"] = value
    with pytest.raises(WrongTypeError, match=message):
        POD(path, type=kind)
    assert POD[str, Any](path) == {"a": value}


def test_a_struct_that_cannot_be_compared_is_refused(path: Path) -> None:
    with pytest.raises(TypeError, match="Unequal has eq=False"):
        POD(path, type=Unequal)
    assert not path.exists()


def test_models_are_edited_and_rolled_back(path: Path) -> None:
    for kind, value in ((Struct, STRUCT), (Model, MODEL)):
        with POD[Any, Any](path / kind.__name__, type=kind) as pod:
            pod["a"] = value
            with pod.edit("a") as edited:
                edited.score = 2.5
            assert pod["a"].score == 2.5
            assert pod["a"] != value
            with pytest.raises(WrongTypeError), pod.edit("a") as edited:
                edited.score = "x"
            pod["a"].score = 3.5
            pod.update("a")
            assert POD[Any, Any](path / kind.__name__, type=kind)["a"].score == 3.5


def test_the_example_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(import datetime.*?)```", (DOCS / "typing.md").read_text(), re.DOTALL)
    scope: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, "typing.md", "exec", dont_inherit=True), scope)
    assert POD("events.pod", type=scope["Event"])["a"].tags == {"new"}


@pytest.mark.parametrize("value", [STRUCT, MODEL, Mixed(STRUCT, [MODEL])], ids=lambda value: type(value).__name__)
def test_a_table_has_the_fields_of_objects_as_files_have_them(path: Path, value: Any) -> None:
    pytest.importorskip("pandas")
    with POD[str, Any](path, type=type(value)) as pod:
        pod["a"] = value
        table = pod.to_dataframe()
        assert [*table.columns] == ["key", *POD[str, Any](path)["a"]]
        assert table.iloc[0].to_dict() == {"key": "a", **POD[str, Any](path)["a"]}

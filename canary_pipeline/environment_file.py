"""A file of environments: one pipeline, whose environments are the partitions of its job.

All of it is checked as it is loaded, but for what only the host of a rollout can tell: whether the
folders and files that settings name are there.
"""

import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from canary_pipeline import accepted as a
from canary_pipeline.model.environment import Environment, FromFile
from canary_pipeline.model.plan import AFTER, Gate
from canary_pipeline.settings import SettingError, SettingValues
from canary_pipeline.sources import Reading, read_values

VARIABLE = "OA_CANARY_ENVIRONMENTS"

_A_FILE = "the path of a TOML file that can be read"

_OF_ANY_HOST = set(SettingValues.model_fields) - {
    "repo_root", "ca_bundle", "client_cert", "signing_key",
}  # fmt: skip


def _text(accept: Callable[[str], object]) -> AfterValidator:
    """Text for which this is true; what it raises is a ValueError."""

    def check(text: str) -> str:
        if not accept(text):
            raise ValueError(text)
        return text

    return AfterValidator(check)


def _is_gate_name(text: str) -> bool:
    taken = text in ("all", "after") or text.startswith(AFTER)
    return not taken and bool(_NAME.fullmatch(text))


_NAME = re.compile(r"[a-z](-?[a-z0-9]){0,59}")
_Name = Annotated[str, _text(lambda text: _NAME.fullmatch(text) and text not in ("demo", "canary"))]
_Template = Annotated[str, _text(re.compile(r"[^{}\s]*\{percent\}[^{}\s]*").fullmatch)]
_Variable = Annotated[str, _text(re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch)]

_NAME_WORDS = (
    "lower-case letters and digits, up to 60, with single dashes between, such as staging-eu; "
    "not demo, not canary"
)
_ACCEPTED: dict[tuple[int | str, ...], str] = {
    ("name",): _NAME_WORDS,
    ("title",): "text",
    ("gates",): "a table of at least one gate",
    ("gates", "*"): a.COMMAND.words,
    ("gates", "*", "[key]"): "lower-case letters and digits with single dashes between, such as "
    "sync-security; not all, not after, nothing that begins with after-",
    ("environments",): "a table of at least one environment",
    ("environments", "*"): "a table",
    ("environments", "*", "[key]"): _NAME_WORDS,
    ("environments", "*", "probe"): "a table of thread_id and cohort_key, each text without blanks "
    "that holds {percent} once",
    ("environments", "*", "variables"): "a table of texts by the names of variables",
    ("environments", "*", "after"): "another environment of this file",
}


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Probe(_Table):
    thread_id: _Template
    cohort_key: _Template


class _Environment(_Table, extra="allow"):
    probe: _Probe | None = None
    variables: dict[_Variable, Annotated[str, _text(lambda text: "\0" not in text)]] = Field({})
    after: str | None = None


class _File(_Table, extra="allow"):
    name: _Name
    title: Annotated[str, _text(str.isprintable)] = ""
    gates: dict[Annotated[str, _text(_is_gate_name)], Annotated[str, _text(a.COMMAND.parse)]] = (
        Field(min_length=1)
    )
    environments: dict[_Name, _Environment] = Field(min_length=1)


def load(file: str, cohorts: tuple[int, ...], soak_seconds: int) -> Environment:
    """The pipeline that a file holds, its environments as parts.

    Args:
        file: The path of the file.
        cohorts: What it declares where it says nothing; `soak_seconds` likewise.
        soak_seconds: Seconds.

    Raises:
        SettingError: On the first thing that is not accepted, with file, key and value.
    """
    return _loaded(file, _content(file), cohorts, soak_seconds)


@lru_cache(maxsize=1)
def _loaded(file: str, content: bytes, cohorts: tuple[int, ...], soak_seconds: int) -> Environment:
    """The same, of a file that was read: a process asks for it time and again."""
    table = _read(file, content)
    whole = Environment(
        name=table.name,
        title=table.title or f"{table.name} canary rollout summary",
        gates=tuple(Gate(name, command) for name, command in table.gates.items()),
        default_cohorts=cohorts,
        default_soak_seconds=soak_seconds,
        pipeline=table.name,
        files=(FromFile(f"{file}: ", table.model_extra or {}),),
    )
    whole, reading = _with_defaults(whole)
    parts = [_part(file, name, table, whole) for name in table.environments]
    return replace(whole, parts=tuple(_fitting(part, reading.values) for part in parts))


def _content(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", error)
        raise SettingError(VARIABLE, f"{file!r} ({why})", _A_FILE) from None


def _read(file: str, content: bytes) -> _File:
    try:
        return _File.model_validate(tomllib.loads(content.decode()))
    except ValidationError as error:
        raise _not_accepted(file, error) from None
    except ValueError as error:
        raise SettingError(VARIABLE, f"{file!r}, which is no TOML ({error})", _A_FILE) from None


def _not_accepted(file: str, error: ValidationError) -> SettingError:
    first = error.errors(include_url=False)[0]
    path = first["loc"]
    known: tuple[int | str, ...] = tuple(
        "*" if place == 1 else key for place, key in enumerate(path)
    )
    words = next(
        _ACCEPTED[known[:end]] for end in range(len(known), 0, -1) if known[:end] in _ACCEPTED
    )
    value = "not set" if first["type"] == "missing" else _shown(first["input"])
    if "variables" in path:
        value = "not usable (value not shown)"
    return SettingError(
        f"{file}: {'.'.join(str(key) for key in path if key != '[key]')}", value, words
    )


def _shown(value: object) -> str:
    text = "empty" if value in ({}, "") else repr(value)
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004 - a line of a terminal


def _part(file: str, name: str, table: _File, whole: Environment) -> Environment:
    own, where = table.environments[name], f"{file}: environments.{name}."
    probe = own.probe or _Probe(
        thread_id=f"{name}-canary-thread-{{percent}}", cohort_key=f"user:{name}-canary-{{percent}}"
    )
    part = replace(
        whole,
        name=name,
        partition=name,
        title=whole.title if name == whole.name else f"{whole.title} ({name})",
        gates=(*whole.gates, *_after(where, name, table)),
        thread_id=probe.thread_id,
        cohort_key=probe.cohort_key,
        command_variables=tuple(own.variables.items()),
        files=(FromFile(where, own.model_extra or {}), *whole.files),
    )
    taken = next((key for key in own.variables if key.startswith(f"{part.variable_stem}_")), None)
    if taken is not None:
        accepted = "none that begins like a setting's; settings are keys of the environment"
        raise SettingError(f"{where}variables.{taken}", "not shown", accepted)
    return part


def _fitting(part: Environment, whole: SettingValues) -> Environment:
    part, reading = _with_defaults(part)
    check_shape(part.name, reading, whole)
    return part


def _after(where: str, name: str, table: _File) -> tuple[Gate, ...]:
    """The gate of an environment that comes after another one."""
    before = table.environments[name].after
    if before is None:
        return ()
    chain, last = [name], table.environments[name].after
    while last is not None:
        if last not in table.environments or last in chain:
            accepted = "another environment of this file that does not come after this one"
            raise SettingError(f"{where}after", repr(before), accepted)
        chain.append(last)
        last = table.environments[last].after
    return (Gate(f"{AFTER}{before}", f"newest decision of {before}: allow, at the same commit"),)


def _with_defaults(environment: Environment) -> tuple[Environment, Reading]:
    reading = read_values(environment, {}, names=_OF_ANY_HOST)
    cohorts, soak = reading.values.cohorts, reading.values.soak_seconds
    return replace(environment, default_cohorts=cohorts, default_soak_seconds=soak), reading


def check_shape(name: str, reading: Reading, whole: SettingValues) -> None:
    """Make sure that the graph of a pipeline has room for a rollout to one of its environments.

    Args:
        name: The environment.
        reading: Its settings.
        whole: Those of the pipeline.

    Raises:
        SettingError: When it has a cohort or groups of gates that the graph has not.
    """
    values, sources = reading.values, reading.sources
    if not set(values.cohorts) <= set(whole.cohorts):
        source = sources.get("cohorts", f"the sequence of cohorts of {name}")
        accepted = f"some of the pipeline's cohorts {','.join(map(str, whole.cohorts))}"
        raise SettingError(source, ",".join(map(str, values.cohorts)), accepted)
    if values.gate_groups not in ((), whole.gate_groups):
        groups = ";".join(",".join(group) for group in whole.gate_groups) or "none"
        accepted = f"those of the pipeline, {groups}: its environments share the order of the gates"
        raise SettingError(sources["gate_groups"], repr(values.gate_groups), accepted)

"""The configuration of a project: read from TOML, checked, frozen. Unknown keys are refused by name."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from loop.errors import BadInput
from loop.paths import expand_home
from loop.sections import (
    STRATEGIES,
    BatchSettings,
    CostSettings,
    EncoderSettings,
    ForecastSettings,
    ImageSettings,
    LabelSettings,
    LabelStudioSettings,
    ProbeSettings,
    ProjectSettings,
    PromptSettings,
    Section,
    StopSettings,
)

if TYPE_CHECKING:
    from forecasting.prior import Prior

__all__ = ["SECTIONS", "STRATEGIES", "Settings", "as_toml", "load_settings", "make_settings"]

SECTIONS: dict[str, type[Section]] = {
    "project": ProjectSettings,
    "images": ImageSettings,
    "label_studio": LabelStudioSettings,
    "encoder": EncoderSettings,
    "batch": BatchSettings,
    "labels": LabelSettings,
    "prompts": PromptSettings,
    "probe": ProbeSettings,
    "forecast": ForecastSettings,
    "stop": StopSettings,
    "costs": CostSettings,
}

EXPECTED = {  # what a value of a wrong type should have been, in the words of TOML
    "string_type": "be text in quotes",
    "tuple_type": "be a list in brackets",
    "int_type": "be a whole number",
    "int_from_float": "be a whole number",
    "float_type": "be a number",
    "bool_type": "be true or false",
    "string_pattern_mismatch": "be as described",
}


class Settings(Section):
    """The whole configuration of a project.

    Attributes:
        base: Folder of the configuration file; relative paths start there.
    """

    project: ProjectSettings
    images: ImageSettings = ImageSettings()
    label_studio: LabelStudioSettings = LabelStudioSettings()
    encoder: EncoderSettings = EncoderSettings()
    batch: BatchSettings = BatchSettings()
    labels: LabelSettings = LabelSettings()
    prompts: PromptSettings = PromptSettings()
    probe: ProbeSettings = ProbeSettings()
    forecast: ForecastSettings = ForecastSettings()
    stop: StopSettings = StopSettings()
    costs: CostSettings = CostSettings()
    base: Path = Field(Path(), exclude=True)

    @model_validator(mode="after")
    def _named_findings_exist(self) -> Settings:
        known = self.project.findings
        named = list(self.stop.target) if isinstance(self.stop.target, dict) else []
        named += [] if isinstance(self.stop.rule, str) else list(self.stop.rule)
        sections = [("stop", named), ("prompts.words", list(self.prompts.words))]
        for section, name in ((section, name) for section, names in sections for name in names):
            if name not in known:
                raise ValueError(
                    f"[{section}] names {name!r}, which is none of the findings: {', '.join(known)}.{_near(name, known)}"
                )
        if isinstance(self.stop.target, dict) and len(self.stop.target) < len(known):
            missing = [name for name in known if name not in self.stop.target]
            raise ValueError(f"[stop.target] has no line for {', '.join(missing)}. Give each finding one.")
        return self

    @model_validator(mode="after")
    def _nothing_below_guessing_is_certified(self) -> Settings:
        lowest = min(self.target_of(name) for name in self.project.findings)
        if lowest - self.stop.tolerance < 0.5 - 1e-9:
            raise ValueError(
                f"[stop] tolerance = {self.stop.tolerance:g} makes the certificate test an AUC of "
                f"{lowest - self.stop.tolerance:.3g}, and guessing has .5. With the target {lowest:g} take at most "
                f"{lowest - 0.5:.3g}."
            )
        return self

    def target_of(self, finding: str) -> float:
        """The AUC that a finding must reach."""
        return self.stop.target[finding] if isinstance(self.stop.target, dict) else self.stop.target

    @property
    def folder(self) -> Path:
        """Where the project lives."""
        return self._path(self.project.folder or self.project.name)

    @property
    def state_url(self) -> str:
        """The state's file, or its database's URL."""
        state = self.project.state
        return state if "://" in state else str(self._path(state) if state else self.folder / "state.db")

    @property
    def page_path(self) -> Path:
        """Where the lead's page is written after each step."""
        return self.folder / "report.html"

    @property
    def features_folder(self) -> Path:
        """Where the embeddings live, a folder an encoder."""
        return self.folder / "features"

    @property
    def images_source(self) -> Path:
        """The images' folder or manifest."""
        return self._path(self.images.source)

    @property
    def images_folder(self) -> Path:
        """The folder that holds the images."""
        source = self.images_source
        return source.parent if source.suffix.lower() == ".csv" else source

    @property
    def document_root(self) -> Path:
        """The folder below which Label Studio serves local files."""
        root = self.label_studio.document_root
        return self._path(root) if root else self.images_folder.parent

    @property
    def ca_path(self) -> Path | None:
        """Certificates of authorities to trust besides the public ones; None for those alone."""
        return self._path(self.label_studio.ca_file) if self.label_studio.ca_file else None

    @property
    def prior_path(self) -> Path | None:
        """The prior's file; None for the shipped one."""
        return self._path(self.forecast.prior) if self.forecast.prior else None

    def read_prior(self) -> Prior:
        """What is believed about learning curves before any label.

        Raises:
            BadInput: The prior's file is missing or not one.
        """
        from forecasting.prior import PRIOR
        from loop.priorfile import read_prior

        return read_prior(self.prior_path).prior if self.prior_path else PRIOR

    def frozen_part(self) -> dict[str, Any]:
        """What must not change silently after the start, as JSON-ready values."""
        return {
            "findings": list(self.project.findings),
            **{
                f"stop.{name}": value
                for name, value in self.stop.model_dump(mode="json").items()
                if name != "budget"
            },
            "batch.random_share": self.batch.random_share,
            "batch.strategy": self.batch.strategy,
            "encoder.spec": self.encoder.spec,
            **({"images.side": self.images.side} if self.images.side else {}),
            "forecast.method": self.forecast.method,
            **({"labels.consensus": self.labels.consensus} if self.labels.consensus != "majority" else {}),
            **({"batch.cold_start": "zero_shot"} if self.batch.cold_start == "zero_shot" else {}),
            **({"forecast.prior": self._prior_text()} if self.forecast.prior else {}),
        }

    def _prior_text(self) -> str:
        """The prior's file and numbers: what is frozen, for a file can be written anew."""
        numbers = (f"{name} {as_toml(value)}" for name, value in asdict(self.read_prior()).items())
        return f"{self.forecast.prior} ({', '.join(numbers)})"

    def _path(self, path: str) -> Path:
        return (self.base / expand_home(path)).resolve()


def load_settings(path: Path, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Settings:
    """Read a configuration: flag over environment over file over default.

    Args:
        path: The TOML file.
        environ: Only ``LABEL_STUDIO_URL`` is read from it.
        overrides: Dotted key to value, from flags; text is read as TOML where that makes sense.

    Raises:
        BadInput: No such file, no TOML, an unknown key or an impossible value; the message says which and what is possible.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadInput(
            f"There is no {path}. Write one with `loop init {path}`, or name yours with --config."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(
            f"{path} is not TOML: {error}. Text stands in quotes, a number begins with a digit (0.9, not .9), a list "
            "stands in brackets."
        ) from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder; name the file in it, such as {path / 'loop.toml'}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}. Save it as a UTF-8 text file.") from None
    _refuse_strange_keys(tables, str(path))
    origins = {}
    if url := environ.get("LABEL_STUDIO_URL", "").strip():
        _put(tables, "label_studio.url", url)
        origins["label_studio", "url"] = " (from LABEL_STUDIO_URL)"
    for dotted, value in overrides.items():
        section, _, key = dotted.partition(".")
        first = key.split(".")[0]
        _refuse_strange_keys({section: {first: value} if key else value}, "--set")
        _put(tables, dotted, _parsed(value, SECTIONS[section].model_fields[first]))
        origins[section, first] = " (from the command line)"
    settings = _checked(tables, str(path), path.resolve().parent, origins)
    if settings.prior_path:
        settings.read_prior()  # a file that is none should be known now, not when labels are judged
    return settings


def make_settings(tables: Mapping[str, Any], name: str = "settings", base: Path = Path()) -> Settings:
    """Check tables of settings; see `load_settings`."""
    _refuse_strange_keys(tables, name)
    return _checked(tables, name, base, {})


def as_toml(value: Any) -> str:
    """A value as it stands in a configuration."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {as_toml(inner)}' for key, inner in value.items())}}}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)


def _checked(
    tables: Mapping[str, Any], name: str, base: Path, origins: Mapping[tuple[str, str], str]
) -> Settings:
    try:
        return Settings.model_validate({**deepcopy(dict(tables)), "base": base})
    except ValidationError as error:
        raise BadInput("\n".join(f"{name}: {line}" for line in _explained(error, origins))) from None


def _put(tables: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, key = dotted.split(".")
    table = tables
    for section in sections:
        inner = table.get(section)
        table[section] = table = inner if isinstance(inner, dict) else {}
    table[key] = value


def _parsed(value: Any, field: FieldInfo) -> Any:
    if not isinstance(value, str) or field.annotation is str:
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _refuse_strange_keys(tables: Mapping[str, Any], name: str) -> None:
    for section, table in tables.items():
        _refuse_secret(name, section, table)
        if section not in SECTIONS:
            raise BadInput(f"{name}: there is no section [{section}]. {_nearest_section(section)}")
        if not isinstance(table, Mapping):
            raise BadInput(
                f"{name}: {section} must be a section: write [{section}] on a line of its own, below it its keys."
            )
        fields = SECTIONS[section].model_fields
        for key, value in table.items():
            _refuse_secret(name, key, value)
            if key not in fields:
                raise BadInput(f"{name}: [{section}] has no {key!r}. {_nearest_key(key, fields)}")


def _refuse_secret(name: str, key: str, value: Any) -> None:
    """Refuse keys and passwords without repeating them."""
    if re.search(r"(^|[_-])(key|token|password)$|^apikey$", key.lower()):
        raise BadInput(
            f"{name}: {key}: a key does not belong into a file that is copied and shared. Remove the line, and "
            "export LABEL_STUDIO_API_KEY=... where you run the command."
        )
    if isinstance(value, str) and re.match(r"[^:/]+://[^/@]*:[^/@]*@", value):
        raise BadInput(
            f"{name}: {key}: the address holds a password, which does not belong into a file that is copied and "
            "shared. Take it out; for PostgreSQL export PGPASSWORD=... or use ~/.pgpass."
        )


def _nearest_section(section: str) -> str:
    if held := _sections_with(section):
        return (
            f"There is the key {section!r} in [{held}] ({SECTIONS[held].model_fields[section].description})."
        )
    if near := difflib.get_close_matches(section, SECTIONS, n=1, cutoff=0.5):
        about = (SECTIONS[near[0]].__doc__ or "").split(".")[0]
        return f"Did you mean [{near[0]}] ({about[:1].lower()}{about[1:]})?"
    return f"There are {', '.join(f'[{known}]' for known in SECTIONS)}."


def _nearest_key(key: str, fields: Mapping[str, FieldInfo]) -> str:
    if near := difflib.get_close_matches(key, fields, n=1, cutoff=0.6):
        return f"Did you mean {near[0]!r} ({fields[near[0]].description})?"
    if held := _sections_with(key):
        return f"{key!r} belongs into [{held}] ({SECTIONS[held].model_fields[key].description})."
    return f"It has {', '.join(fields)}."


def _sections_with(key: str) -> str | None:
    return next((section for section, model in SECTIONS.items() if key in model.model_fields), None)


def _near(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def _explained(error: ValidationError, origins: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """One line a key; of the ways in which a value can be wrong the one that looked deepest into it."""
    problems: dict[tuple[str, ...], Any] = {}
    for problem in error.errors(include_url=False):
        where = tuple(str(part) for part in problem["loc"][:2])
        if where not in problems or len(problem["loc"]) > len(problems[where]["loc"]):
            problems[where] = problem
    for where, problem in problems.items():
        if len(where) < 2:
            if problem["type"] == "missing":
                yield f"the section [{where[0]}] is missing. Every project needs its findings: [project] findings = [...]."
            else:
                yield str(problem["msg"]).removeprefix("Value error, ")
            continue
        section, key = where[0], where[1]
        origin = origins.get((section, key), "")
        meaning = f"Meaning: {SECTIONS[section].model_fields[key].description}."
        if problem["type"] == "missing":
            yield f"[{section}] {key} is missing. {meaning}"
            continue
        if (
            isinstance(problem["loc"][-1], str) and len(problem["loc"]) > 3
        ):  # a line of a table, as in [stop.target]
            section, key = f"{section}.{key}", problem["loc"][-1]
        value = as_toml(problem["input"])
        yield f"[{section}] {key} = {value}{origin} is not possible: it must {_expected(problem)} {meaning}"


def _expected(problem: Mapping[str, Any]) -> str:
    fact = EXPECTED.get(problem["type"])
    if fact is None:
        fact = re.sub(r"^(Value error, |\w+ should )", "", str(problem["msg"]))
        fact = re.sub(r" after validation, not \d+", "", fact)
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        return f"{fact}.{_near(problem['input'], tuple(known))}"
    return f"{fact}."

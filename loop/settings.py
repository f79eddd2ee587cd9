"""The configuration of a project: read from TOML, checked, frozen. Unknown keys are refused by name."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from loop.addresses import Address, is_address, read_address
from loop.errors import BadInput
from loop.paths import expand_home
from loop.sections import (
    SECTIONS,
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
from loop.strategynames import STRATEGIES
from loop.wrong_settings import as_toml, explain, nearest, refuse_strange_keys

if TYPE_CHECKING:
    from forecasting.prior import Prior

__all__ = ["SECTIONS", "STRATEGIES", "Settings", "as_toml", "load_settings", "make_settings"]


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
                    f"[{section}] names {name!r}, which is none of the findings: {', '.join(known)}.{nearest(name, known)}"
                )
        if isinstance(self.stop.target, dict) and len(self.stop.target) < len(known):
            missing = [name for name in known if name not in self.stop.target]
            raise ValueError(f"[stop.target] has no line for {', '.join(missing)}. Give each finding one.")
        return self

    @model_validator(mode="after")
    def _images_have_addresses(self) -> Settings:
        source = self.images.source
        if (
            self.label_studio.delivery == "url"
            and not self.label_studio.url_prefix
            and not is_address(source)
            and not source.lower().endswith(".csv")
        ):
            raise ValueError(
                '[label_studio] delivery = "url" needs url_prefix, the address under which the images folder can be fetched.'
            )
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
    def images_source(self) -> Path | Address:
        """The images' folder or manifest, on disk or on a server."""
        source = self.images.source
        return read_address(source) if is_address(source) else self._path(source)

    @property
    def copies_folder(self) -> Path:
        """Where copies of images on servers lie, by server and path."""
        return self.folder / "fetched"

    @property
    def images_folder(self) -> Path:
        """The folder that holds the images."""
        source = self.images_source
        path = self.copies_folder / source.copy if isinstance(source, Address) else source
        return path.parent if path.suffix.lower() == ".csv" else path

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
            **({"labels.existing": "random"} if self.labels.existing == "random" else {}),
            **({} if self.batch.fall_back else {"batch.fall_back": False}),
            **({"batch.cold_start": self.batch.cold_start} if self.batch.cold_start != "random" else {}),
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
    refuse_strange_keys(tables, str(path))
    origins = {}
    if url := environ.get("LABEL_STUDIO_URL", "").strip():
        _put(tables, "label_studio.url", url)
        origins["label_studio", "url"] = " (from LABEL_STUDIO_URL)"
    for dotted, value in overrides.items():
        section, _, key = dotted.partition(".")
        first = key.split(".")[0]
        refuse_strange_keys({section: {first: value} if key else value}, "--set")
        _put(tables, dotted, _parsed(value, SECTIONS[section].model_fields[first]))
        origins[section, first] = " (from the command line)"
    settings = _checked(tables, str(path), path.resolve().parent, origins)
    if settings.prior_path:
        settings.read_prior()  # a file that is none should be known now, not when labels are judged
    return settings


def make_settings(tables: Mapping[str, Any], name: str = "settings", base: Path = Path()) -> Settings:
    """Check tables of settings; see `load_settings`."""
    refuse_strange_keys(tables, name)
    return _checked(tables, name, base, {})


def _checked(
    tables: Mapping[str, Any], name: str, base: Path, origins: Mapping[tuple[str, str], str]
) -> Settings:
    try:
        return Settings.model_validate({**deepcopy(dict(tables)), "base": base})
    except ValidationError as error:
        raise BadInput("\n".join(f"{name}: {line}" for line in explain(error, origins))) from None


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

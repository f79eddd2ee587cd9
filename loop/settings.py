"""The configuration of a project: read from TOML, checked, frozen. Unknown keys are refused by name."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from loop.errors import BadInput

STRATEGIES = ("random", "uncertainty", "margin", "entropy")

Auc = Annotated[float, Field(gt=0.5, lt=1)]
Finding = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]


class Section(BaseModel):
    """A table of the configuration file: frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ProjectSettings(Section):
    """What is labelled."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$")] = Field(
        "my-project", description="name of the project: 3 to 40 lower-case letters, digits and dashes"
    )
    findings: Annotated[tuple[Finding, ...], Field(min_length=1, max_length=40)] = Field(
        description='the yes/no questions, one name each, e.g. ["Effusion", "Pneumothorax"]'
    )
    seed: int = Field(
        0, ge=0, description="makes every draw repeatable; keep it once the project has started"
    )
    folder: str = Field(
        "",
        description="where state, embeddings and renditions live; default: a folder beside this file, named like the project",
    )

    @field_validator("findings")
    @classmethod
    def _unique(cls, findings: tuple[str, ...]) -> tuple[str, ...]:
        lower = [finding.lower() for finding in findings]
        if len(set(lower)) < len(lower):
            raise ValueError("each finding once")
        return findings


class ImageSettings(Section):
    """Where the images are."""

    source: str = Field(
        "images",
        description="a folder of images, or a CSV manifest with the column `file` and optionally `patient` and any metadata; relative to this file",
    )
    patient: str = Field(
        "",
        description='for a folder: a regular expression on the relative path whose one group is the patient, e.g. "^([^/]+)/"; empty = each image is a patient of its own',
    )

    @field_validator("patient")
    @classmethod
    def _one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"no regular expression ({error})") from None
        if pattern and groups != 1:
            raise ValueError("a regular expression with exactly one group")
        return pattern


class LabelStudioSettings(Section):
    """The Label Studio that the annotators use. Its key is read from LABEL_STUDIO_API_KEY only."""

    url: str = Field(
        "http://localhost:8080", description="its address; LABEL_STUDIO_URL and --url win over this"
    )
    project_id: Annotated[int, Field(ge=1)] | None = Field(
        None, description="id of an existing project to adopt; leave out to create one"
    )
    title: str = Field(
        "", max_length=50, description="title of the project to create; default: the project's name"
    )
    delivery: Literal["local-files", "upload", "url"] = Field(
        "local-files",
        description="how images reach annotators: read by Label Studio from its own disk, uploaded to it, or fetched from url_prefix",
    )
    document_root: str = Field(
        "",
        description="for local-files: the server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, a folder above the images; default: the folder above them",
    )
    url_prefix: str = Field(
        "", description="for url: the address under which the images folder can be fetched"
    )
    show_suggestions: bool = Field(
        False,
        description="pre-fill the probe's answers on images of the active part; faster, but annotators then see which images are random, and lean towards the probe",
    )

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not re.match(r"^https?://[^/\s]+", url):
            raise ValueError("an address such as http://localhost:8080")
        return url.rstrip("/")

    @field_validator("title")
    @classmethod
    def _long_enough(cls, title: str) -> str:
        if title and len(title) < 3:
            raise ValueError("3 to 50 characters")
        return title

    @model_validator(mode="after")
    def _prefixed(self) -> LabelStudioSettings:
        if self.delivery == "url" and not self.url_prefix:
            raise ValueError('delivery = "url" needs url_prefix')
        return self


class EncoderSettings(Section):
    """The frozen foundation model."""

    spec: str = Field(
        "timm:tf_efficientnet_lite0",
        description="timm:NAME[@CHECKPOINT] or open_clip:ARCH@PRETRAINED, e.g. open_clip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    )
    batch_size: int = Field(64, ge=1, le=4096, description="images encoded at once")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")


class BatchSettings(Section):
    """What is asked after each turn."""

    size: int = Field(50, ge=2, le=5000, description="images a batch")
    random_share: float = Field(
        0.5, gt=0, le=1, description="share of each batch from the random stream; it feeds the certificate"
    )
    strategy: Literal["random", "uncertainty", "margin", "entropy"] = Field(
        "uncertainty", description="how the active part of a batch is chosen"
    )
    finished_share: float = Field(
        0.9, gt=0, le=1, description="a batch counts as finished when this share of it is answered"
    )


class ProbeSettings(Section):
    """The logistic heads on the embeddings."""

    components: int = Field(
        256, ge=0, le=4096, description="principal components the probe sees; 0 = all dimensions"
    )


class ForecastSettings(Section):
    """The learning curve."""

    from_labels: int = Field(50, ge=20, description="labels from which on the curve is fitted")
    method: Literal["bayes", "nls"] = Field(
        "bayes", description="bayes = probit power law pooled over findings; nls = bounded least squares"
    )
    level: float = Field(0.9, ge=0.5, lt=1, description="level of the intervals")


class StopSettings(Section):
    """When to stop. Frozen at the start: a later change is stored as an amendment and shown."""

    target: Auc | dict[str, Auc] = Field(
        0.85,
        description="the AUC each finding must reach, above .5 and below 1; or a table with one line a finding",
    )
    rule: Literal["all", "mean"] | Annotated[tuple[Finding, ...], Field(min_length=1)] = Field(
        "all", description='"all" findings, a list of those that count, or "mean" for their mean AUC'
    )
    evidence: Literal["likely", "certified"] = Field(
        "likely", description="what counts as reached: the calibrated forecast, or the certificate"
    )
    tolerance: float = Field(
        0.03,
        ge=0,
        lt=0.3,
        description="the certificate tests the target less this; a smaller one costs more labels",
    )
    alpha: float = Field(0.05, gt=0, lt=0.5, description="error rate of the certificate")
    budget: Annotated[int, Field(ge=2)] | None = Field(
        None, description="stop at this many labels at the latest"
    )


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
    probe: ProbeSettings = ProbeSettings()
    forecast: ForecastSettings = ForecastSettings()
    stop: StopSettings = StopSettings()
    base: Path = Field(Path(), exclude=True)

    @model_validator(mode="after")
    def _named_findings_exist(self) -> Settings:
        known = self.project.findings
        named = list(self.stop.target) if isinstance(self.stop.target, dict) else []
        named += [] if isinstance(self.stop.rule, str) else list(self.stop.rule)
        for name in named:
            if name not in known:
                raise ValueError(f"[stop] names {name!r}, which is none of the findings {', '.join(known)}")
        if isinstance(self.stop.target, dict) and len(self.stop.target) < len(known):
            missing = [name for name in known if name not in self.stop.target]
            raise ValueError(f"[stop.target] has no line for {', '.join(missing)}")
        return self

    def target_of(self, finding: str) -> float:
        """The AUC that a finding must reach."""
        return self.stop.target[finding] if isinstance(self.stop.target, dict) else self.stop.target

    @property
    def folder(self) -> Path:
        """Where the project lives."""
        return (self.base / (self.project.folder or self.project.name)).resolve()

    @property
    def state_url(self) -> str:
        """The state's file."""
        return str(self.folder / "state.db")

    @property
    def images_source(self) -> Path:
        """The images' folder or manifest."""
        return (self.base / self.images.source).resolve()

    @property
    def images_folder(self) -> Path:
        """The folder that holds the images."""
        source = self.images_source
        return source.parent if source.suffix.lower() == ".csv" else source

    @property
    def document_root(self) -> Path:
        """The folder below which Label Studio serves local files."""
        if self.label_studio.document_root:
            return Path(self.label_studio.document_root).resolve()
        return self.images_folder.parent

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
        }


SECTIONS: dict[str, type[Section]] = {
    "project": ProjectSettings,
    "images": ImageSettings,
    "label_studio": LabelStudioSettings,
    "encoder": EncoderSettings,
    "batch": BatchSettings,
    "probe": ProbeSettings,
    "forecast": ForecastSettings,
    "stop": StopSettings,
}


def load_settings(path: Path, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Settings:
    """Read a configuration: flag over environment over file over default.

    Args:
        path: The TOML file.
        environ: Only ``LABEL_STUDIO_URL`` is read from it.
        overrides: Dotted key to value; text is read as TOML where it can be.

    Raises:
        BadInput: No such file, no TOML, an unknown key or an impossible value; the message says which and what is possible.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(
            f"There is no {path}. Write one with `loop init {path}`, or name yours with --config."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: {error}") from None
    if url := environ.get("LABEL_STUDIO_URL", "").strip():
        _put(tables, "label_studio.url", url)
    for key, value in overrides.items():
        _put(tables, key, _parsed(value))
    return make_settings(tables, str(path), path.resolve().parent)


def make_settings(tables: Mapping[str, Any], name: str = "settings", base: Path = Path()) -> Settings:
    """Check tables of settings; see `load_settings`."""
    _refuse_strange_keys(tables, name)
    try:
        return Settings.model_validate({**tables, "base": base})
    except ValidationError as error:
        raise BadInput("\n".join(f"{name}: {line}" for line in _explained(error))) from None


def described() -> Iterator[tuple[str, str, FieldInfo]]:
    """Every setting: section, key, field."""
    for section, model in SECTIONS.items():
        for key, field in model.model_fields.items():
            yield section, key, field


def _put(tables: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, key = dotted.split(".")
    table = tables
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise BadInput(f"--set {dotted}: {section} is no section.")
    table[key] = value


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _refuse_strange_keys(tables: Mapping[str, Any], name: str) -> None:
    for section, table in tables.items():
        if section not in SECTIONS:
            near = difflib.get_close_matches(section, SECTIONS, n=1, cutoff=0.5)
            raise BadInput(
                f"{name}: there is no section [{section}]. "
                + (
                    f"Did you mean [{near[0]}] ({_about(SECTIONS[near[0]])})?"
                    if near
                    else f"There are {', '.join(SECTIONS)}."
                )
            )
        if not isinstance(table, Mapping):
            raise BadInput(f"{name}: {section} must be a section: write [{section}] on a line of its own.")
        for key in table:
            if "key" in key.lower() or "token" in key.lower():
                raise BadInput(
                    f"{name}: [{section}] {key}: keys do not belong into files. Remove it, and export LABEL_STUDIO_API_KEY=..."
                )
            fields = SECTIONS[section].model_fields
            if key not in fields:
                raise BadInput(f"{name}: [{section}] has no {key!r}. {_nearest(key, fields)}")


def _nearest(key: str, fields: Mapping[str, FieldInfo]) -> str:
    near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r} ({fields[near[0]].description})?"
    elsewhere = [f"[{section}] {k}" for section, k, _ in described() if k == key]
    return f"There is {elsewhere[0]}." if elsewhere else f"It has {', '.join(fields)}."


def _about(model: type[Section]) -> str:
    return (model.__doc__ or "").split(".")[0].lower()


def _explained(error: ValidationError) -> Iterator[str]:
    seen = set()
    for problem in error.errors(include_url=False):
        where = [str(part) for part in problem["loc"]]
        if len(where) < 2:
            if problem["type"] == "missing":
                yield f"the section [{where[0]}] is missing. Every project needs its findings: [project] findings = [...]."
            else:
                yield str(problem["msg"]).removeprefix("Value error, ") + "."
            continue
        section, key = where[:2]
        if (section, key) in seen:  # one line a key, however many ways it is wrong
            continue
        seen.add((section, key))
        field = SECTIONS[section].model_fields[key]
        if problem["type"] == "missing":
            yield f"[{section}] {key} is missing: {field.description}."
            continue
        fact = str(problem["msg"]).removeprefix("Value error, ")
        yield f"[{section}] {key} = {problem['input']!r} is not possible: {fact[0].lower()}{fact[1:]}. It is {field.description}."

"""The sections of a configuration, each key with its meaning: what errors, template and reference say of it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from loop.strategynames import refuse_unknown

Auc = Annotated[float, Field(gt=0.5, lt=1)]
Finding = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]

Prompts = Annotated[tuple[str, ...], Field(min_length=1, max_length=40, strict=False)]


class Section(BaseModel):
    """A table of the configuration file: frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ProjectSettings(Section):
    """What is labelled."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$")] = Field(
        "my-project", description="name of the project: 3 to 40 lower-case letters, digits and dashes"
    )
    findings: Annotated[tuple[Finding, ...], Field(min_length=1, max_length=40, strict=False)] = Field(
        description='the yes/no questions, one name each, e.g. ["Effusion", "Pneumothorax"]'
    )
    seed: int = Field(
        0, ge=0, description="makes every draw repeatable; keep it once the project has started"
    )
    folder: str = Field(
        "",
        description="where state, embeddings and renditions live; default: a folder beside this file, named like the project",
    )
    state: str = Field(
        "",
        description="the state's database; default: the file state.db in the folder; or an SQLAlchemy URL without password, e.g. postgresql+psycopg://HOST/NAME",
    )

    report: bool = Field(
        True, description="write the lead's page, report.html, into the folder after each step"
    )

    @field_validator("findings")
    @classmethod
    def _unique(cls, findings: tuple[str, ...]) -> tuple[str, ...]:
        seen: dict[str, str] = {}
        for finding in findings:
            if not finding.isprintable():
                raise ValueError(f"be printable names, which {finding!r} is not")
            if (same := seen.get(finding.casefold())) is not None:
                raise ValueError(f"name each finding once; {same!r} and {finding!r} are the same")
            seen[finding.casefold()] = finding
        return findings


class ImageSettings(Section):
    """Where the images are."""

    source: str = Field(
        "images",
        description="a folder of images, or a CSV manifest with the column `file` (paths or addresses) and optionally `patient` and any metadata; relative to this file, or an address such as s3://BUCKET/FOLDER",
    )
    side: int = Field(
        0,
        ge=0,
        description="images whose shorter side is longer are reduced to this many pixels before an encoder sees them, and the small copies kept: worth it for large or slow files and several encoders; counts as another encoder; 0 = as they are",
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
            raise ValueError(f"be a regular expression ({error})") from None
        if pattern and groups != 1:
            raise ValueError(f"have exactly one group, in round brackets; it has {groups}")
        return pattern


class LabelStudioSettings(Section):
    """The Label Studio that the annotators use. Its key is read from LABEL_STUDIO_API_KEY only."""

    url: str = Field(
        "http://localhost:8080", description="its address; LABEL_STUDIO_URL and --url win over this"
    )
    project_id: Annotated[int, Field(ge=1)] | None = Field(
        None, description="id of an existing project to adopt; leave out to create one", examples=[1]
    )
    match_by: str = Field(
        "",
        description="for an adopted project: the key of its tasks' data that names the image, as a column of the manifest of that name does, or as the image's file is called; default: the address of the image does",
    )
    ca_file: str = Field(
        "",
        description="certificates of your own authority, a PEM file relative to this one, if Label Studio's certificate is signed by it; default: the public authorities, or SSL_CERT_FILE",
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
        "",
        description="for url: the address under which the images folder can be fetched; default: the addresses that images on a server have",
    )
    show_suggestions: bool = Field(
        False,
        description="pre-fill the probe's answers on images of the active part; faster, but annotators then see which images are random, and lean towards the probe",
    )

    close_on_stop: bool = Field(
        False,
        description="on STOP close the queue, too: nobody gets a task until the loop goes on; title and instructions say STOP in any case",
    )

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not re.match(r"^https?://[^/\s]+", url):
            raise ValueError("be an address such as http://localhost:8080")
        return url.rstrip("/")

    @field_validator("title")
    @classmethod
    def _long_enough(cls, title: str) -> str:
        if title and len(title) < 3:
            raise ValueError("have 3 to 50 characters")
        return title


class EncoderSettings(Section):
    """The frozen foundation model."""

    spec: str = Field(
        "timm:tf_efficientnet_lite0",
        description="which model, FAMILY:NAME, e.g. hf:microsoft/rad-dino or features:TABLE.npz; `loop encoders list` names the families",
    )
    batch_size: int = Field(64, ge=1, le=4096, description="images encoded at once")
    device: str = Field(
        "auto",
        description="where it runs: auto, cpu, cuda, cuda:1 or mps; several with commas: cuda:0,cuda:1; all = every GPU",
    )
    allow_pickle: str = Field(
        "",
        description="name of the one checkpoint file that may be loaded although it is a pickle, which can run any code; default: none",
    )


class BatchSettings(Section):
    """What is asked after each turn."""

    size: int = Field(50, ge=2, le=5000, description="images in a batch")
    random_share: float = Field(
        0.5, gt=0, le=1, description="share of each batch from the random stream; it feeds the certificate"
    )
    strategy: Annotated[str, StringConstraints(max_length=40)] = Field(
        "hybrid",
        description="how the active part of a batch is chosen: random, uncertainty, margin, entropy, ranked, k_center, badge, typiclust, committee, hybrid, or one that a package adds",
    )
    fall_back: bool = Field(
        True,
        description="draw the active part at random while the strategy, tried on the random labels that are there, does worse than random beyond chance; false = use it all the same",
    )
    finished_share: float = Field(
        0.9, gt=0, le=1, description="a batch counts as finished when this share of it is answered"
    )
    cold_start: Literal["random", "zero_shot", "typiclust"] = Field(
        "random",
        description="the first batch: all random; or half of it what a model with a text tower finds by the [prompts], without a label; or half of it what is typical of the archive",
    )

    @field_validator("strategy")
    @classmethod
    def _exists(cls, name: str) -> str:
        if wrong := refuse_unknown(name):
            raise ValueError(f"be the name of a strategy. {wrong.rstrip('.')}")
        return name


class LabelSettings(Section):
    """How answers of several annotators become one label."""

    consensus: Literal["majority", "dawid_skene"] = Field(
        "majority",
        description="where annotators disagree: majority = more voices, a tie is not known; dawid_skene = who is right more often is believed, from 30 images on that three or more people answered; certificate and stars are not touched by it",
    )
    existing: Literal["outsider", "random"] = Field(
        "outsider",
        description="labels that an adopted project held before the first batch: outsider = somebody picked these images; random = you declare them a random sample of the images, and the forecast counts them as random; the certificate never does",
    )
    double_reads: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of each batch, drawn at random, that a second annotator reads too, without suggestions; it shows agreement and the best AUC that such labels allow; e.g. 0.1",
    )


class PromptSettings(Section):
    """Texts that images are compared with before the first label, if [batch] cold_start is "zero_shot"."""

    positive: Prompts = Field(
        ("a chest X-ray with {finding}", "{finding} is present"),
        description="what an image with a finding shows; {finding} stands for its words",
    )
    negative: Prompts = Field(
        ("a chest X-ray without {finding}", "no {finding}"),
        description="what an image without it shows",
    )
    words: dict[str, Finding] = Field(
        {},
        description='a finding in words that the model knows, e.g. {PTX = "pneumothorax"}; default: its name in lower case',
    )

    @field_validator("positive", "negative")
    @classmethod
    def _names_the_finding(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if "{finding}" not in template:
                raise ValueError(f"hold {{finding}} in each text, which {template!r} does not")
        return templates


class ProbeSettings(Section):
    """The logistic heads on the embeddings."""

    components: int = Field(
        256, ge=0, le=4096, description="principal components the probe sees; 0 = all dimensions"
    )


class ForecastSettings(Section):
    """The learning curve."""

    from_labels: int = Field(50, ge=20, description="labels from which on the curve is fitted")
    method: Literal["bayes", "nls"] = Field(
        "bayes",
        description="how the curve is fitted: bayes = probit power law pooled over findings; nls = bounded least squares",
    )
    level: float = Field(0.9, ge=0.5, lt=1, description="level of the intervals, e.g. 0.9 for 90 %")
    prior: str = Field(
        "",
        description="what is believed about curves before any label: a file written by `loop prior fit`, relative to this file; default: the shipped prior",
    )

    @model_validator(mode="after")
    def _prior_is_used(self) -> ForecastSettings:
        if self.prior and self.method == "nls":
            raise ValueError(
                '[forecast] prior is read by method = "bayes" only. Remove it, or set the method to "bayes".'
            )
        return self


class StopSettings(Section):
    """When to stop. Frozen at the start: a later change is stored as an amendment and shown."""

    target: Auc | dict[str, Auc] = Field(
        0.85,
        description="the AUC each finding must reach, above .5 and below 1; or a table with one line a finding",
    )
    rule: Literal["all", "mean"] | Annotated[tuple[Finding, ...], Field(min_length=1, strict=False)] = Field(
        "all",
        description='which findings must reach it: "all", a list of those that count, or "mean" for their mean AUC',
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
    alpha: float = Field(0.05, gt=0, lt=0.5, description="error rate of the certificate; see correction")
    correction: Literal["holm", "bonferroni", "none"] = Field(
        "holm",
        description="how findings share alpha: holm and bonferroni = it is the error rate of all certified findings together; none = of each on its own",
    )
    budget: Annotated[int, Field(ge=2)] | None = Field(
        None, description="stop at this many labels at the latest", examples=[2000]
    )


class CostSettings(Section):
    """What labels cost, for the lead's page: per hour of an annotator, per labelled image, or both."""

    currency: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8)] = Field(
        "EUR", description="what the rates are in"
    )
    per_hour: Annotated[float, Field(ge=0)] | None = Field(
        None, description="rate of an annotator's hour at the screen", examples=[90.0]
    )
    per_label: Annotated[float, Field(ge=0)] | None = Field(
        None, description="rate of one labelled image", examples=[2.5]
    )


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

"""Recipes: everything a training run depends on, in one TOML file.

A recipe says *what* to do and never *where*: the run directory is an argument. All sections have defaults, so a recipe may be three lines::

    [budget]
    ebops = 5000

Unknown keys are refused with the closest known one. `Recipe.from_toml` and `Recipe.to_toml` are inverse to each other.
"""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hgq import toml
from hgq.complaints import complaint
from hgq.errors import ConfigError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused, numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(Section):
    """Which data, and how they are prepared on the host.

    Args:
        name: A data set in the package; leave it out when `path` is given.
        path: An ``.npz`` file, as an alternative; relative to the working directory.
        x_train, y_train, x_test, y_test: Names of its arrays.
        validation: Share of the training rows held out to choose the best model.
        scaling: ``standard``: mean 0 and deviation 1 per feature, fitted on the training part; ``unit``: divided by the power of two that
            brings the whole training part to magnitudes up to 1, as images want it; or ``none``.
    """

    name: str | None = None
    path: str | None = None
    x_train: str = "x_train"
    y_train: str = "y_train"
    x_test: str = "x_test"
    y_test: str = "y_test"
    validation: Annotated[float, Field(gt=0, lt=0.9)] = 0.15
    scaling: Literal["standard", "unit", "none"] = "standard"

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("name") is not None and value.get("path") is not None:
                raise ValueError("name (a data set in the package) or path (an .npz file), not both")
            if value.get("path") is None:
                return {"name": "jsc_sim", **value}
        return value

    @property
    def source(self) -> str:
        """The path, or else the name of a data set in the package."""
        return self.path or self.name or ""


class ModelSection(Section):
    """The built-in multilayer perceptron, or a function of yours; ignored by recipes that list their own ``[[layers]]``.

    Args:
        build: ``file.py:function`` (relative to the working directory) or ``package.module:function``: called with the shape of one sample
            and the number of outputs, it returns the Keras model. The other keys and the rules then have no meaning.
        widths: Units of the hidden layers; the output layer follows from the data.
        activation: Of the hidden layers.
        layer: ``QDense`` or ``QDenseBatchNorm`` for the hidden layers.
    """

    build: Annotated[str, Field(pattern=r"^[^:]+:[A-Za-z_]\w*$")] | None = None
    widths: Annotated[list[Positive], Field(min_length=0, max_length=64)] = [64, 32, 32]
    activation: Literal["relu", "linear"] = "relu"
    layer: Literal["QDense", "QDenseBatchNorm"] = "QDense"


class LayerSection(BaseModel):
    """One ``[[layers]]`` entry: `type` is a layer of `hgq.layers` or of Keras, all other keys are its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The layer's arguments."""
        return dict(self.model_extra or {})


class Rule(Section):
    """Formats for all layers whose path matches; of several rules the first that matches counts, and only that one.

    Args:
        match: Regular expression, searched in the layer's name.
        weight, bias, activation: Quantizers by string (see `hgq.quantizers.get`), for a layer's constants and its *input*; None leaves the
            layer's default.
        gradients: How the backward pass of these layers computes gradients, as `hgq.gradients.get` takes it; ``"none"`` is full precision,
            None what ``train.gradients`` says.
    """

    match: str
    weight: str | None = None
    bias: str | None = None
    activation: str | None = None
    gradients: str | None = None

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"a regular expression that compiles ({error})") from None
        return value


class Knot(Section):
    """From `epoch` on beta is `beta`, and changes toward the next knot as `shape` says."""

    epoch: Annotated[float, Field(ge=0)]
    beta: Annotated[float, Field(ge=0)]
    shape: Literal["constant", "linear", "log"] = "constant"


class TrainSection(Section):
    """How to train.

    Args:
        epochs: Of each budget, or in all without one.
        batch_size: Samples a step; what remains of an epoch is dropped (another rest each time).
        optimizer: A Keras optimizer by name.
        learning_rate: At the start of each stage.
        bit_rate: Learning rate of bits over that of weights (`hgq.training.optimizers`).
        schedule: ``cosine``: falls to `final_rate` of it over each stage; ``constant``: stays.
        final_rate: See `schedule`.
        loss: ``crossentropy`` (labels are classes) or ``mse``.
        seed: Of everything random: initial weights, order of samples, dropout, stochastic rounding.
        jit_compile: Compile the training step with XLA; right for dense networks on a CPU, wrong for convolutions there.
        devices: How many devices share each batch, or ``"all"`` that there are: docs/distributed.md.
        beta: Weight of one EBOP in the loss: a number, or knots of a piecewise schedule. None where a budget steers it.
        gradients: How the backward pass of layers with a kernel computes gradients, as `hgq.gradients.get` takes it, such as ``luq4``;
            None for full precision. A rule may say otherwise for some layers.
        step: Which method owns the training step, as `hgq.training.with_step` takes it, such as ``zigzag(a=0.6)`` or ``metagrad``; None
            for one gradient and one update. It goes with every choice of `gradients`.
        finetune: Epochs of fine-tuning after the `epochs` of each budget: gradients in full precision, the learning rate up to 0.3 of
            `learning_rate` and back. The budget is kept.
        gradient_health: Measure, at the end of epochs, what `gradients` does to each layer's gradients (`hgq.training.GradientHealth`):
            ``gradients.csv`` in the run directory, drawn by the report. Changes nothing else.
    """

    epochs: Positive = 120
    batch_size: Positive = 1024
    optimizer: str = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 5e-3
    bit_rate: Annotated[float, Field(gt=0)] = 8.0
    schedule: Literal["cosine", "constant"] = "cosine"
    final_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    loss: Literal["crossentropy", "mse"] = "crossentropy"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    jit_compile: bool = True
    devices: Positive | Literal["all"] = 1
    beta: Annotated[float, Field(ge=0)] | list[Knot] | None = None
    gradients: str | None = None
    step: str | None = None
    finetune: Annotated[int, Field(ge=0)] = 0
    gradient_health: bool = False

    @field_validator("beta")
    @classmethod
    def _in_order(cls, value: float | list[Knot] | None) -> float | list[Knot] | None:
        if isinstance(value, list):
            epochs = [knot.epoch for knot in value]
            if not epochs or any(a >= b for a, b in pairwise(epochs)):
                raise ValueError("knots whose epochs increase")
        return value


Targets = list[Annotated[float, Field(gt=0)]]


class BudgetSection(Section):
    """A resource budget; the controller of `hgq.training.budget` steers beta to it.

    Args:
        ebops: EBOPs of the frozen model; several are reached one after the other in one run, from large to small, each of `train.epochs`.
        lut: The same in LUTs, as `hgq estimate` counts them for the RTL on `export.part`; instead of `ebops`.
        tolerance: The result lies in ``[(1 - tolerance) * budget, budget]``.
        beta: Where beta starts.
        warmup: Share of the first stage's epochs before the target starts to move.
        ramp: Share of each stage's epochs during which the target moves down to the budget.
    """

    ebops: Targets = []
    lut: Targets = []
    tolerance: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    beta: Annotated[float, Field(gt=0)] = 1e-6
    warmup: Share = 0.1
    ramp: Share = 0.4

    @property
    def resource(self) -> str:
        """What is counted: ``ebops`` or ``lut``."""
        return "lut" if self.lut else "ebops"

    @property
    def targets(self) -> list[float]:
        """How much of it, from large to small."""
        return self.lut or self.ebops

    @field_validator("ebops", "lut", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("ebops", "lut")
    @classmethod
    def _falling(cls, value: list[float]) -> list[float]:
        if any(a <= b for a, b in pairwise(value)):
            raise ValueError("budgets from large to small, each once")
        return value

    @model_validator(mode="after")
    def _one_resource(self) -> BudgetSection:
        if bool(self.ebops) == bool(self.lut):
            raise ValueError("ebops or lut, one of them")
        return self

    @model_validator(mode="after")
    def _time_to_settle(self) -> BudgetSection:
        if self.warmup + self.ramp > 0.9:
            raise ValueError("warmup + ramp of at most 0.9, so that a tenth of the epochs remains to settle on the budget")
        return self


class ExportSection(Section):
    """The firmware that the run's report is about.

    Args:
        backends: Which.
        part: Device.
        clock_ns: Clock period asked for.
        latency_ns: Most nanoseconds from input to output of the RTL. The pipeline is cut, and the clock made faster than `clock_ns`, so
            that it is kept; where the model is too deep for that, training makes its sums shorter (`hgq.training.shallow`).
    """

    backends: list[str] = ["rtl", "hls4ml"]
    part: str = "xcvu13p-flga2577-2-e"
    clock_ns: Annotated[float, Field(gt=0)] = 5.0
    latency_ns: Annotated[float, Field(gt=0)] | None = None


class VerifySection(Section):
    """How many test samples the verification runs through every representation; 0 skips it."""

    samples: Annotated[int, Field(ge=0)] = 10_000


START = Rule(match="", weight="weight(b0=4, adapt_to_magnitude=True, i_bounds=(-4, 8))", activation="data(i0=2, f0=3)")
"""Four bits for each weight and six for each activation to begin with: the fewer bits there are to lose, the sooner a run is at its budget.
The bound keeps weights near zero from asking for a grid so fine that sums outgrow the 24 bits in which float32, and so Keras, is exact."""


class Recipe(Section):
    """A whole run. See the sections; `layers` replaces `model` when it is not empty."""

    name: str = "model"
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    layers: list[LayerSection] = []
    rules: list[Rule] = [START]
    train: TrainSection = TrainSection()
    budget: BudgetSection | None = None
    export: ExportSection = ExportSection()
    verify: VerifySection = VerifySection()

    @model_validator(mode="after")
    def _one_master_of_beta(self) -> Recipe:
        if self.budget is not None and self.train.beta is not None:
            raise ValueError("train.beta or [budget], not both: a budget steers beta itself (its start is budget.beta)")
        if self.layers and "model" in self.model_fields_set:
            raise ValueError("[model] or [[layers]], not both")
        return self

    @property
    def resource(self) -> str:
        """What training charges for: ``ebops`` or ``lut``."""
        return self.budget.resource if self.budget else "ebops"

    @classmethod
    def from_dict(cls, content: dict[str, Any], where: str = "recipe") -> Recipe:
        """A recipe from plain values.

        Raises:
            ConfigError: naming the path of the first wrong key, what was expected, what was received and the closest known key.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise complaint(error, where, cls) from None

    @classmethod
    def from_toml(cls, path: str | Path) -> Recipe:
        """A recipe from a TOML file.

        Raises:
            ConfigError: the file is missing, is not TOML, or is no recipe.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            received = getattr(error, "strerror", None) or str(error)
            raise ConfigError("Cannot read the recipe.", where=str(path), expected="a TOML file", received=received) from None
        return cls.from_text(text, str(path))

    @classmethod
    def from_text(cls, text: str, where: str = "recipe") -> Recipe:
        """A recipe from TOML text; raises as `from_toml`."""
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError("The recipe is not valid TOML.", where=where, received=str(error)) from None
        return cls.from_dict(content, where)

    def to_toml(self) -> str:
        """TOML text with every value written out, so that a later change of a default does not change the run."""
        content = self.model_dump(mode="json", exclude_none=True)
        if self.layers:
            del content["model"]
        else:
            del content["layers"]
        return toml.written(content)

    def changed(self, **changes: dict[str, Any] | Any) -> Recipe:
        """A validated copy: ``recipe.changed(train={"epochs": 3}, budget={"ebops": 5000})`` merges into the sections.

        A budget given to a recipe with a beta schedule replaces the schedule.
        """
        content = self.model_dump(mode="python", exclude_none=True, exclude_unset=True)
        for key, change in changes.items():
            content[key] = {**content.get(key, {}), **change} if isinstance(change, dict) else change
        if "budget" in changes and self.budget is None:
            content.get("train", {}).pop("beta", None)
        return Recipe.from_dict(content)

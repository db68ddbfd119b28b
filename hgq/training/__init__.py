"""Training: callbacks for any Keras loop, and the driver of ``hgq train``.

=================  ==================================================================================
`beta.py`          `BetaSchedule`: beta as a function of the epoch
`budget.py`        `Budget`: the controller that steers beta to a number of EBOPs
`select.py`        `Select`: which epoch's model is delivered for a budget
`pareto.py`        `ParetoFront`: keeps the models that no other one beats
`bits.py`          `BitHistogram`: bits by layer and epoch
`progress.py`      `Progress`: the bar
`step.py`          `with_step`: methods that own the training step
`zigzag.py`        one-step forward and backtrack; `curvature.py` what optimizers know of the curvature
`loss_aware.py`    `LossAware`: tells LAQ quantizers the curvatures
`metagrad.py`      MetaGrad; `hypernetworks.py` the networks that correct gradients
`finetune.py`      `FineTune`: the last epochs with exact gradients
`health.py`        `GradientHealth`: what quantization does to the gradients of each layer
`optimizers.py`    optimizers that move bits faster than weights
`build.py`         recipe -> compiled model
`loop.py`          the loop itself, a pure function of seed and epoch
`checkpoint.py`    what a run needs to go on
`start.py`         `train`: recipe -> run directory
`run.py`           `Run`: a recipe in training; `deliver.py` a model at its end, `result.py` what was delivered
=================  ==================================================================================
"""

from __future__ import annotations

from hgq.training.beta import BetaSchedule
from hgq.training.bits import BitHistogram
from hgq.training.budget import Budget, Controller
from hgq.training.build import build_model
from hgq.training.finetune import FineTune
from hgq.training.health import GradientHealth, gradient_health
from hgq.training.loss_aware import LossAware
from hgq.training.metagrad import MetaGrad
from hgq.training.optimizers import BitAdam, BitAdamW, BitSGD
from hgq.training.pareto import ParetoFront
from hgq.training.progress import Progress
from hgq.training.result import Point, RunResult
from hgq.training.run import load_data
from hgq.training.select import Select
from hgq.training.start import train
from hgq.training.step import Step, StepModel, TrainStepMethod, register_step, with_step
from hgq.training.zigzag import Zigzag

__all__ = [
    "BetaSchedule",
    "BitAdam",
    "BitAdamW",
    "BitHistogram",
    "BitSGD",
    "Budget",
    "Controller",
    "FineTune",
    "GradientHealth",
    "LossAware",
    "MetaGrad",
    "ParetoFront",
    "Point",
    "Progress",
    "RunResult",
    "Select",
    "Step",
    "StepModel",
    "TrainStepMethod",
    "Zigzag",
    "build_model",
    "gradient_health",
    "load_data",
    "register_step",
    "train",
    "with_step",
]

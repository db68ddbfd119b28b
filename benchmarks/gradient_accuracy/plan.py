"""The list of runs: tasks, methods, seeds, and what the papers promise of them. No TensorFlow in here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Task:
    """Data, network and how it is trained with float32 gradients; each method trains the same way unless it says otherwise.

    Args:
        title: Of its tables.
        file: In the folder of the data.
        train: Training samples used, the first ones; all test samples count.
        pool: Images are averaged over squares of this many pixels.
        filters: 3x3 convolutions, each with relu and 2x2 maximum pooling.
        hidden: Dense layers with relu before the last.
        optimizer, learning_rate: Cosine down to zero over all steps, without momentum for `sgd0` and `adam0`.
        epochs, batch: Of training.
        jit: Whether steps are compiled with XLA.
        weights: Quantizer of kernels, None for the default.
    """

    title: str
    file: str
    train: int
    hidden: tuple[int, ...]
    optimizer: str
    learning_rate: float
    epochs: int
    batch: int = 128
    filters: tuple[int, ...] = ()
    pool: int = 1
    jit: bool = True
    weights: str | None = None


MLP = Task("MLP on MNIST", "mnist.npz", 20_000, (256, 128), "adam", 1e-3, 5)
CONV = Task("conv net on CIFAR-10", "cifar10_10k.npz", 8_000, (64,), "sgd", 0.05, 6, filters=(16, 32), pool=2, jit=False)
BINARY = Task("1-bit weights, MLP on MNIST", "mnist.npz", 4_000, (96,), "adam0", 3e-3, 10, batch=64, weights="binary")
BINARY_CONV = replace(CONV, title="1-bit weights, conv net on CIFAR-10", optimizer="adam0", learning_rate=3e-3, weights="binary")
PIXELS = replace(MLP, title="MLP on CIFAR-10", file="cifar10_10k.npz", train=8_000, pool=2, epochs=10)
MOMENTUM = replace(MLP, title="MLP on MNIST, SGD", optimizer="sgd", learning_rate=0.05)
TASKS = {"mlp": MLP, "conv": CONV, "pixels": PIXELS, "momentum": MOMENTUM, "binary": BINARY, "binary_conv": BINARY_CONV}


@dataclass(frozen=True)
class Method:
    """A way to train.

    Args:
        title: Its row.
        gradients: What `hgq.gradients.get` takes.
        ends: ``False`` leaves the first and the last layer in float32.
        forward: ``hgq``: the default quantizers of the layers; ``float``: plain Keras layers; else a quantizer of kernels and data.
        step: What owns the training step.
        finetune: Epochs in full precision behind the others.
        epochs, rate: Factors on those of the task.
        seeds: How many.
    """

    title: str
    gradients: str = "none"
    ends: bool = True
    forward: str = "hgq"
    step: str = "none"
    finetune: int = 0
    epochs: float = 1
    rate: float = 1
    seeds: int = 3

    def settings(self) -> dict[str, Any]:
        """What the outcome depends on, besides task and seed."""
        return {name: value for name, value in asdict(self).items() if name not in ("title", "seeds")}


Methods = dict[str, Method]

SCHEMES: Methods = {
    "none": Method("float32", seeds=5),
    "float_forward": Method("float32, and a float forward pass", forward="float"),
    "luq4": Method("LUQ, 4 bits", "luq4", seeds=5),
    "luq4_smp2": Method("LUQ, 4 bits, 2 samples", "luq4(samples=2)", seeds=5),
    "luq4_ends": Method("LUQ, 4 bits, first and last layer float32", "luq4", ends=False),
    "luq4_row": Method("LUQ, 4 bits, a scale for each row", "luq4(granularity='row')"),
    "luq_17codes": Method("LUQ, 17 codes (the reference code's)", "luq(levels=8)"),
    "luq_eq11": Method("LUQ, 11 codes (eq. 11 as printed)", "luq(levels=5)"),
    "int4": Method("integers, 4 bits, stochastic", "int4"),
    "int4_rn": Method("integers, 4 bits, to the nearest", "int4_rn"),
    "fp4": Method("FP4 (E2M1), stochastic", "fp4"),
    "fp4_rn": Method("FP4 (E2M1), to the nearest", "fp4_rn"),
    "nvfp4": Method("NVFP4", "nvfp4"),
    "mxfp4": Method("MXFP4", "mxfp4"),
    "hq": Method("HLQ, rank 16 of 16", "hlq(rank=16)", seeds=5),
    "hlq": Method("HLQ, rank 8 of 16 along positions, 16 along the batch", "hlq"),
    "hlq8": Method("HLQ, rank 8 of 16, along the batch too", "hlq(rank=8)", seeds=5),
    "hlq8_random": Method("HLQ, 8 random rows of 16 (unbiased)", "hlq(rank=8, random_rows=True)"),
}
FEWER_BITS: Methods = {
    "luq_rn4": Method("log grid, 4 bits, to the nearest", "luq4(unbiased_rounding=False)"),
    "luq3": Method("LUQ, 3 bits", "luq3"),
    "luq3_smp4": Method("LUQ, 3 bits, 4 samples", "luq3(samples=4)"),
    "luq_rn3": Method("log grid, 3 bits, to the nearest", "luq3(unbiased_rounding=False)"),
    "int3": Method("integers, 3 bits, stochastic", "int3"),
    "int3_rn": Method("integers, 3 bits, to the nearest", "int3_rn"),
    "luq2": Method("LUQ, 2 bits", "luq2"),
    "luq2_smp2": Method("LUQ, 2 bits, 2 samples", "luq2(samples=2)"),
    "luq2_smp4": Method("LUQ, 2 bits, 4 samples", "luq2(samples=4)"),
    "luq2_smp16": Method("LUQ, 2 bits, 16 samples", "luq2(samples=16)"),
    "int2_rn": Method("integers, 2 bits, to the nearest", "int2_rn"),
}
PARTS: Methods = {
    "hindsight": Method("LUQ, 4 bits, scale in hindsight", "luq4(scale='hindsight')"),
    "sawb": Method("float32 gradients, INT4 forward (SAWB)", forward="sawb4"),
    "sawb_luq4": Method("LUQ, 4 bits, INT4 forward (SAWB)", "luq4", forward="sawb4"),
    "luq4_fnt3": Method("LUQ, 4 bits, then 3 epochs in full precision", "luq4", finetune=3),
    "none_fnt3": Method("float32, then the same 3 epochs", finetune=3),
}
RATES = {"low": 0.2, "": 1.0, "high": 3.0}
METAQUANT = "metagrad(rate=1e-3)"
"""At the learning rate of MetaQuant's network; the default is a tenth of it."""
META: Methods = {
    f"{name}{'_' if rate else ''}{rate}": Method(f"{title}{rated}", gradients, ends=gradients == "none", step=step, rate=factor)
    for rate, factor in RATES.items()
    for rated in (f"; learning rate x {factor:g}" if rate else "",)
    for name, title, gradients, step in (
        ("none", "float32", "none", "none"),
        ("none_meta", "float32 + MetaGrad, its rate 0.001", "none", METAQUANT),
        ("int4_ends", "integers, 4 bits, stochastic; first and last layer float32", "int4", "none"),
        ("metagrad", "MetaGrad (those), its rate 0.001", "int4", METAQUANT),
    )
    if rate or name != "none"
}
"""As the papers do it: the layers at both ends in float32, and each row beside its control, at three learning rates."""
META_OTHERS: Methods = {
    "metagrad_luq4": Method("MetaGrad (LUQ, 4 bits; first and last layer float32)", "luq4", ends=False, step="metagrad(rate=1e-4)"),
    "none_meta_slow": Method("float32 + MetaGrad", step="metagrad(rate=1e-4)"),
    "metagrad_slow": Method(
        "MetaGrad (integers, 4 bits, stochastic; first and last layer float32)",
        "int4",
        ends=False,
        step="metagrad(rate=1e-4)",
    ),
    "int4_rn_ends": Method("integers, 4 bits, to the nearest; first and last layer float32", "int4_rn", ends=False),
    "metagrad_rn_ends": Method("MetaGrad (those), its rate 0.001", "int4_rn", ends=False, step=METAQUANT),
    "metagrad_rn_ends_slow": Method("MetaGrad (those)", "int4_rn", ends=False, step="metagrad(rate=1e-4)"),
    "metagrad_rn": Method("MetaGrad (integers, 4 bits, to the nearest, everywhere), its rate 0.001", "int4_rn", step=METAQUANT),
}
LOOK_AHEAD: Methods = {
    "none": Method("base method", seeds=5),
    "zigzag5": Method("forward and backtrack, 1 step in 5", step="zigzag(a=0.6, period=5)", seeds=5),
    "none_x1.2": Method("base method, 1.2 times the epochs", epochs=1.2, seeds=5),
    "zigzag": Method("forward and backtrack, every step", step="zigzag(a=0.6, period=1)", seeds=5),
    "none_x2": Method("base method, twice the epochs", epochs=2, seeds=5),
}
ON_CONV = """none luq4 hq hlq hlq8 luq3 luq_rn3 luq2 int2_rn luq4_fnt3 none_fnt3 none_meta int4_ends metagrad metagrad_luq4 luq4_ends
    none_meta_slow metagrad_slow int4_rn int4_rn_ends metagrad_rn_ends metagrad_rn_ends_slow metagrad_rn nvfp4 int4 luq4_smp2
    luq2_smp16 sawb sawb_luq4""".split()
"""The conv net costs twice as much as the MLP: fewer methods, three seeds each …"""
SEEDS_ON_CONV = {name: 12 for name in ("none", "hq")} | {
    name: 8 for name in "luq4 luq4_fnt3 none_fnt3 hlq luq2 int2_rn metagrad_slow metagrad_rn_ends_slow".split()
}
"""… but for those whose aims three seeds cannot tell."""
ON_HARDER = "none luq4 int4_rn luq3 luq_rn3 int3 int3_rn luq2 luq2_smp16 int2_rn".split()
"""Where few bits are compared once more: whether unbiased gradients gain little on MNIST because it is easy, or because Adam rescales."""
ALL = SCHEMES | FEWER_BITS | PARTS | META | META_OTHERS
METHODS: dict[str, Methods] = {
    "mlp": {name: method for name, method in ALL.items() if name != "hlq"},  # there it is hq
    "conv": {name: replace(ALL[name], seeds=SEEDS_ON_CONV.get(name, 3)) for name in ON_CONV},
    **{task: {name: replace(ALL[name], seeds=3) for name in ON_HARDER} for task in ("pixels", "momentum")},
    "binary": LOOK_AHEAD,
    "binary_conv": {name: replace(method, seeds=3) for name, method in LOOK_AHEAD.items()},
}

JETS_OPTIONS: dict[str, Any] = {"epochs": 40, "ebops": [5000.0], "backends": ["rtl"]}
"""What differs from the recipe: one budget, a third of its epochs, one backend to verify besides Keras and the golden model."""
JETS: Methods = {
    "none": Method("float32"),
    "luq4": Method("LUQ, 4 bits", "luq4"),
    "int4": Method("integers, 4 bits, stochastic", "int4", seeds=1),
    "fp4": Method("FP4 (E2M1), stochastic", "fp4", seeds=1),
    "nvfp4": Method("NVFP4", "nvfp4", seeds=1),
    "mxfp4": Method("MXFP4", "mxfp4", seeds=1),
    "hlq": Method("HLQ, rank 8 of 16", "hlq(rank=8)", seeds=1),
    "hq": Method("HLQ, rank 16 of 16", "hq", seeds=1),
    "int4_rn": Method("integers, 4 bits, to the nearest", "int4_rn", seeds=1),
    "none_meta": Method("float32 + MetaGrad, its rate 0.001", step=METAQUANT),
    "int4_ends": Method("integers, 4 bits, stochastic; first and last layer float32", "int4", ends=False),
    "metagrad": Method("MetaGrad (those), its rate 0.001", "int4", ends=False, step=METAQUANT),
    "metagrad_rn": Method("MetaGrad (integers, 4 bits, to the nearest, everywhere), its rate 0.001", "int4_rn", step=METAQUANT, seeds=1),
    "metagrad_slow": Method(
        "MetaGrad (integers, 4 bits, stochastic; first and last layer float32)", "int4", ends=False, step="metagrad(rate=1e-4)", seeds=1
    ),
    "metagrad_luq4": Method("MetaGrad (LUQ, 4 bits)", "luq4", step="metagrad(rate=1e-4)", seeds=1),
    "zigzag": Method("LUQ, 4 bits; forward and backtrack, 1 step in 5", "luq4", step="zigzag(a=0.6, period=5)", seeds=1),
    "finetune": Method("LUQ, 4 bits, then 3 epochs in full precision", "luq4", finetune=3, seeds=1),
}


@dataclass(frozen=True)
class Run:
    """One entry of the store."""

    task: str
    method: str
    seed: int

    @property
    def key(self) -> str:
        """In the store."""
        return f"{self.task}/{self.method}/{self.seed}"

    def settings(self) -> dict[str, Any]:
        """What the outcome depends on; an entry with other settings is of another run."""
        if self.task == "jets":
            method = JETS[self.method].settings()
            ends = {} if method["ends"] else {"ends": False}
            return {**JETS_OPTIONS, **{name: method[name] for name in ("gradients", "step", "finetune")}, **ends}
        task = {name: value for name, value in asdict(TASKS[self.task]).items() if name != "title"}
        return {"task": task, "method": METHODS[self.task][self.method].settings()}


def runs() -> Iterator[Run]:
    """All, seeds of one method together, since they share a compiled step."""
    for task, methods in {**METHODS, "jets": JETS}.items():
        for name, method in methods.items():
            for seed in range(method.seeds):
                yield Run(task, name, seed)


@dataclass(frozen=True)
class Target:
    """What the project set out to reach.

    Args:
        title: In words.
        task: Where.
        better: Method whose accuracy, less …
        worse: … that of this one, in points …
        at_most: … is no more than this, or …
        at_least: … no less than this.
    """

    title: str
    task: str
    better: str
    worse: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def limit(self) -> float:
        """Points."""
        return self.at_most if self.at_most is not None else (self.at_least or 0.0)

    def holds(self, difference: float) -> bool:
        """Whether a measured difference is what was promised."""
        return difference <= self.limit if self.at_most is not None else difference >= self.limit

    def verdict(self, difference: float, error: float) -> str:
        """In words; closer to the limit than two standard errors, these seeds cannot tell."""
        word = "held" if self.holds(difference) else "**missed**"
        return f"{word}, within noise" if abs(difference - self.limit) < 2 * error else word


HARDER = ("mlp", "conv", "pixels", "momentum")


def _each(title: str, better: str, worse: str, tasks: tuple[str, ...], **limit: float) -> list[Target]:
    return [Target(title, task, better, worse, **limit) for task in tasks]


def _both(title: str, better: str, worse: str, **limit: float) -> list[Target]:
    return _each(title, better, worse, ("mlp", "conv"), **limit)


TARGETS = [
    *_both("LUQ within 1.1 points of float32 at 4 bits", "none", "luq4", at_most=1.1),
    *_both("LUQ + FNT within 0.35 of float32 with the same extra epochs", "none_fnt3", "luq4_fnt3", at_most=0.35),
    *_both("LUQ + FNT within 0.35 of float32 without them", "none", "luq4_fnt3", at_most=0.35),
    *_both("MetaGrad, integers to the nearest as in the paper, within 0.7 of float32", "none", "metagrad_rn_ends_slow", at_most=0.7),
    *_both("MetaGrad, stochastic integers, within 0.7 of float32", "none", "metagrad_slow", at_most=0.7),
    *_both("MetaGrad, stochastic integers, at MetaQuant's rate, 0.001, within 0.7 of float32", "none", "metagrad", at_most=0.7),
    *_both("MetaGrad on LUQ within 0.7 of float32", "none", "metagrad_luq4", at_most=0.7),
    Target("HLQ at full rank within 0.5 of float32", "mlp", "none", "hq", at_most=0.5),
    Target("HLQ, rank 8 along positions, within 2 of float32", "conv", "none", "hlq", at_most=2.0),
    Target("HLQ, rank 16 along positions, within 0.5 of float32", "conv", "none", "hq", at_most=0.5),
    *_each("unbiased at least 10 points above nearest, log grid, 3 bits", "luq3", "luq_rn3", HARDER, at_least=10.0),
    Target("unbiased at least 10 points above nearest, integers, 3 bits", "mlp", "int3", "int3_rn", at_least=10.0),
    *_each("unbiased at least 10 points above nearest, 2 bits", "luq2", "int2_rn", HARDER, at_least=10.0),
    *_each(
        "unbiased (16 samples) at least 10 points above nearest, 2 bits",
        "luq2_smp16",
        "int2_rn",
        ("mlp", "pixels", "momentum"),
        at_least=10.0,
    ),
]

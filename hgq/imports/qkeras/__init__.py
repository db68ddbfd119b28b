"""QKeras models (github.com/google/qkeras, arXiv:2006.10159) from their files, without QKeras."""

from __future__ import annotations

import keras

from hgq.imports.assembly import Assembly
from hgq.imports.files import ModelFile
from hgq.imports.options import ImportOptions
from hgq.imports.qkeras.layers import TRANSLATORS, Importer

CLASSES = frozenset({*TRANSLATORS, "QActivation"} - {"BatchNormalization"})
"""Classes by which a file of Keras 2 is known: those do not say whose they are."""


def convert(file: ModelFile, options: ImportOptions) -> tuple[keras.Model, list[str]]:
    """A QKeras model as one of ours that predicts the same numbers, and what the user should know about it.

    Raises:
        ConfigError: something in it cannot be had; the message says what and what to do.
        FileFormatError: the file lacks something.
    """
    network = file.network
    assembly = Assembly(network.name)
    importer = Importer(file, assembly, options)
    values = {}
    by_name = {entry.name: entry for entry in network.entries}
    for key in network.inputs:
        config = by_name[key[0]].config
        shape = tuple(config["batch_shape" if "batch_shape" in config else "batch_input_shape"][1:])
        values[key] = assembly.input(key[0], shape)
    read = {key for entry in network.entries for call in entry.calls for key in call}
    for entry, number, keys in network.calls():
        if entry.class_name == "InputLayer":
            continue
        result = (entry.name, number, 0)
        values[result] = importer.call(entry, [values[key] for key in keys], last=result in network.outputs and result not in read)
    return assembly.model([values[key] for key in network.outputs]), importer.notes

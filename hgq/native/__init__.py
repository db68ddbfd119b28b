"""Native TensorFlow ops: the same numbers as the plain-TensorFlow references, bit for bit, in a fraction of the time.

The C++ sources come with the package. On first use they are compiled with the ``g++`` that is there, against the TensorFlow that is
installed (20 to 60 s, once), and kept in the user's cache folder, ``$XDG_CACHE_HOME/hgqc/native`` or ``~/.cache/hgqc/native``. Without a
compiler, or where compiling fails, one notice says so and the references go on working. The environment variable ``HGQ_NATIVE=0`` turns
native ops off; ``hgq doctor`` shows their state.

When they are used:

- in eager execution;
- in graphs that are traced inside `in_graphs`, which ``hgq train`` does by itself unless the recipe says ``jit_compile``.

A graph that TensorFlow compiles with XLA cannot hold them: XLA knows only its own ops, and nothing tells a function that is traced what it
is traced for. Therefore other graphs, those of `keras.Model.fit` among them, get the references, which XLA compiles well. To use the native
ops there, compile the model with ``jit_compile=False`` (the default of Keras means XLA) and say so::

    model.compile(..., jit_compile=False)
    with hgq.native.in_graphs():
        model.fit(...)

They run on the CPU. Where TensorFlow sees a GPU they are not used.
"""

from __future__ import annotations

from hgq.native.build import State, state
from hgq.native.library import in_graphs, instructions, ops_for, ops_in_graphs

__all__ = ["State", "in_graphs", "instructions", "ops_for", "ops_in_graphs", "state"]

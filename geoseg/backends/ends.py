"""What is put before and behind a network in OpenVINO, so that only bytes go in and come out.

Compiled with the network, these steps run in its threads, fused into the layers beside them: no
float copy of a tile is made in Python, and none of its probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from openvino import opset13 as op
from openvino.preprocess import PrePostProcessor

from geoseg.values import CERTAIN

if TYPE_CHECKING:
    from geoseg.backends.base import Activation
    from geoseg.models.inputs import InputSpec


def take_pixels(model: Any, inputs: InputSpec) -> Any:
    """Return a network that takes uint8 pixels and normalizes them in float32.

    Parameters
    ----------
    model : openvino.Model
        With one input of rank 4; where that is of integers they are rounded and clipped.
    inputs : InputSpec
    """
    wanted = model.inputs[0].get_element_type()
    center = op.constant(np.array(inputs.center, np.float32)[None, :, None, None])
    spread = op.constant(np.array(inputs.spread, np.float32)[None, :, None, None])

    def normalize(pixels: Any) -> Any:
        values = op.divide(op.subtract(op.convert(pixels, "f32"), center), spread)
        if wanted.is_integral():
            limit = float(np.iinfo(wanted.to_dtype()).max)
            values = op.round(op.clamp(values, 0.0, limit), "half_to_even")
        return op.convert(values, wanted).output(0)

    steps = PrePostProcessor(model)
    steps.input(0).tensor().set_element_type(openvino.Type.u8)
    steps.input(0).preprocess().custom(normalize)
    return steps.build()


def give_integers(model: Any, activation: Activation) -> Any:
    """Return a network whose outputs are probabilities on the integer scale, and whether they are true.

    Parameters
    ----------
    model : openvino.Model
        Its first output is used, ``(1, channels, rows, cols)``.
    activation : str
        See `geoseg.backends.base.ACTIVATIONS`.

    Returns
    -------
    openvino.Model
        Outputs: uint16 of the network's shape, 0 … `CERTAIN`, rounded half to even; a float32 that is
        above 0 if the network gave NaN, or infinities of which the softmax would be NaN. Neither
        can be seen in the integers, and compiled layers need not hand NaN on.
    """
    values = op.convert(model.get_results()[0].input_value(0), "f32")
    axes = op.constant(np.arange(values.get_output_partial_shape(0).rank.get_length()))
    broken = openvino.opset14.is_nan(values)
    if activation == "softmax":
        largest = op.reduce_max(values, op.constant(np.array([1])), keep_dims=True)
        # The largest of minus infinities comes out as the smallest number there is.
        beyond = op.greater_equal(op.abs(largest), op.constant(np.finfo(np.float32).max))
        broken = op.logical_or(broken, beyond)
    probabilities = {
        "sigmoid": op.sigmoid,
        "softmax": lambda logits: op.softmax(logits, 1),
        "probability": lambda given: op.clamp(given, 0.0, 1.0),
    }[activation](values)
    scaled = op.multiply(probabilities, op.constant(np.float32(CERTAIN)))
    integers = op.convert(op.round(scaled, "half_to_even"), "u16")
    spoiled = op.reduce_max(op.convert(broken, "f32"), axes)
    return openvino.Model([op.result(integers), op.result(spoiled)], model.get_parameters(), "geoseg")

"""From light on the ground to an 8-bit picture: haze, optics, tone, colour cast, noise."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scenery.canvas import SUPERSAMPLING, Canvas, Sun, blur, openness, shadow, smooth_noise


class Sensor(NamedTuple):
    """A camera, its weather and its development.

    Parameters
    ----------
    sky : float
        Share of the skylight in all light on level ground: how bright shadows are.
    blue : float
        How blue the skylight is, 0 … 1.
    haze : float
        Share of scattered light that lies over the whole picture, 0 … 1.
    sigma : float
        Point spread of the optics in pixels.
    sharpen : float
        Strength of unsharp masking.
    gain, gamma, saturation : float
        Exposure, tone curve and colour strength of the development.
    cast : tuple of float
        Gain of red, green, blue.
    noise : float
        Deviation of the noise in mid-tones, in 8-bit steps.
    """

    sky: float
    blue: float
    haze: float
    sigma: float
    sharpen: float
    gain: float
    gamma: float
    saturation: float
    cast: tuple[float, float, float]
    noise: float


def draw_sensor(rng: np.random.Generator) -> Sensor:
    """Draw a camera."""
    cast = np.exp(0.045 * rng.standard_normal(3))
    return Sensor(
        sky=rng.uniform(0.10, 0.26),
        blue=rng.uniform(0.05, 0.45),
        haze=float(rng.beta(0.8, 16)),
        sigma=rng.uniform(0.25, 0.75),
        sharpen=float(max(0.0, rng.uniform(-0.4, 0.8))),
        gain=float(np.exp(rng.normal(0.12, 0.22))),
        gamma=rng.uniform(0.85, 1.15),
        saturation=rng.uniform(0.55, 1.15),
        cast=(float(cast[0]), float(cast[1]), float(cast[2])),
        noise=rng.uniform(0.8, 4.0),
    )


def expose(canvas: Canvas, sun: Sun, sensor: Sensor, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the picture (3, rows, cols) that `sensor` takes of the canvas."""
    direct = canvas.light * (1 - shadow(canvas.height, sun, canvas.scale))
    direct *= np.float32((1 - sensor.sky) / sun.z)
    ambient = openness(canvas.height, canvas.scale) * np.float32(sensor.sky)
    skylight = np.array([1 - 0.7 * sensor.blue, 1.0, 1 + sensor.blue], np.float32)
    picture = np.stack(
        [
            _pixels(canvas.albedo[band] * (direct + ambient * skylight[band]), canvas.margin)
            for band in range(3)
        ]
    )
    return _develop(picture, sensor, rng)


def _pixels(samples: NDArray[np.float32], margin: int) -> NDArray[np.float32]:
    inner = samples[margin:-margin, margin:-margin]
    rows, cols = inner.shape
    n = SUPERSAMPLING
    return np.asarray(inner.reshape(rows // n, n, cols // n, n).mean(axis=(1, 3)), np.float32)


def _develop(picture: NDArray[np.float32], sensor: Sensor, rng: np.random.Generator) -> NDArray[np.uint8]:
    shape = picture.shape[1:]
    veil = np.array([0.30, 0.34, 0.40], np.float32)[:, None, None]
    uneven = 1 + np.float32(0.05) * smooth_noise(rng, shape, max(shape) / 1.5)
    picture = picture * uneven * np.float32(1 - sensor.haze) + veil * np.float32(sensor.haze)
    soft = blur(picture, sensor.sigma)
    if sensor.sharpen:
        soft += np.float32(sensor.sharpen) * (soft - blur(soft, 1.2))
    soft *= np.float32(sensor.gain)
    gray = soft.mean(axis=0)
    soft = gray + np.float32(sensor.saturation) * (soft - gray)
    soft *= np.array(sensor.cast, np.float32)[:, None, None]
    tone = np.maximum(soft, 0) ** np.float32(sensor.gamma / 2.2)
    tone = 255 * np.where(tone > 0.8, 0.8 + 0.2 * np.tanh((tone - 0.8) / 0.2), tone)
    grain = rng.standard_normal(tone.shape, dtype=np.float32)
    common = rng.standard_normal(shape, dtype=np.float32)
    level = np.float32(sensor.noise) * (0.5 + np.sqrt(tone / np.float32(255)) / math.sqrt(2))
    tone += level * (np.float32(0.6) * grain + np.float32(0.8) * common)
    return np.asarray(np.clip(np.rint(tone), 0, 255), np.uint8)

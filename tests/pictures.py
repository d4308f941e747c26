"""Moving pictures for tests, and how alike two pictures are."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import connectsphere as cs

Picture = NDArray[np.uint8]


def frame_datagrams(ident: int, number: int, sealed: bytes) -> bytes:
	"""All datagrams of a frame back to back, each of DATAGRAM bytes but for a shorter last."""
	total = cs.parts_of(len(sealed))
	return bytes(cs.FrameLayout(total).lay(ident, number, sealed))


def blurred(values: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
	"""`values` averaged over squares of 2 * radius + 1; smaller by 2 * radius each way."""
	size = 2 * radius + 1
	for axis in (0, 1):
		total = np.cumsum(np.insert(values, 0, 0.0, axis), axis)
		count = total.shape[axis]
		values = np.take(total, range(size, count), axis) - np.take(total, range(count - size), axis)
	return values / size**2


def scenery(width: int, height: int, seed: int = 3) -> Picture:
	"""A grey landscape of soft spots in colour, different everywhere."""
	random = np.random.default_rng(seed)
	planes = []
	for _ in range(3):
		spots = blurred(blurred(random.normal(size=(height + 24, width + 24)), 6), 6)
		low, high = np.percentile(spots, (1, 99))
		planes.append(np.clip((spots - low) / (high - low) * 255, 0, 255).astype(np.uint8))
	return np.ascontiguousarray(np.stack(planes, axis=2))


_scenery = functools.lru_cache(scenery)  # the same room, many times over


def as_filmed(picture: Picture, seed: int, noise: float = 5.0, room: float = 0.4) -> Picture:
	"""A drawing as a camera would see it: with so much of a room in it, and its sensor's noise."""
	height, width = picture.shape[:2]
	grain = np.random.default_rng(seed).standard_normal(picture.shape, np.float32)
	grain *= noise
	grain += room * (_scenery(width, height).astype(np.float32) - 128.0)
	grain += picture
	return grain.clip(0, 255, out=grain).astype(np.uint8)


def counting(path: Path) -> Path:
	"""An MJPG .avi of one second at 30 fps, 64x48; frame n has the brightness 8 n."""
	import cv2

	writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
	for number in range(30):
		writer.write(np.full((48, 64, 3), 8 * number, np.uint8))
	writer.release()
	return path


def film(
	path: Path, seconds: float, fps: int = 25, size: tuple[int, int] = (640, 360), step: int = 4
) -> Path:
	"""An MJPG .avi that pans over `scenery`, `step` pixels a frame, so every frame is unlike the others."""
	import cv2

	frames = int(seconds * fps)
	width, height = size
	land = scenery(width + step * frames, height)
	writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size)
	assert writer.isOpened(), "no MJPG encoder"
	for n in range(frames):
		writer.write(np.ascontiguousarray(land[:, n * step : n * step + width]))
	writer.release()
	return path


def frames_of(path: Path) -> list[Picture]:
	"""Every frame of a video file, in grey."""
	import cv2

	capture = cv2.VideoCapture(str(path))
	found: list[Picture] = []
	while True:
		done, picture = capture.read()
		if not done:
			break
		found.append(grey(picture))
	capture.release()
	return found


def frame_rate(path: Path) -> float:
	"""Frames a second of a video file."""
	import cv2

	capture = cv2.VideoCapture(str(path))
	rate = capture.get(cv2.CAP_PROP_FPS)
	capture.release()
	return rate


def read_picture(path: Path) -> Any:
	"""A picture file, BGR."""
	import cv2

	picture = cv2.imread(str(path))
	assert picture is not None, f"{path} is no picture"
	return picture


def grey(picture: Any) -> Any:
	"""A BGR picture in grey."""
	import cv2

	return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)


def ssim(one: Picture, other: Picture) -> float:
	"""Mean structural similarity of two grey pictures of one size (Wang 2004, windows of 7 x 7)."""
	a, b = one.astype(np.float64), other.astype(np.float64)
	mean_a, mean_b = blurred(a, 3), blurred(b, 3)
	var_a, var_b = blurred(a * a, 3) - mean_a**2, blurred(b * b, 3) - mean_b**2
	both = blurred(a * b, 3) - mean_a * mean_b
	low, contrast = (0.01 * 255) ** 2, (0.03 * 255) ** 2
	over = (2 * mean_a * mean_b + low) * (2 * both + contrast)
	under = (mean_a**2 + mean_b**2 + low) * (var_a + var_b + contrast)
	return float((over / under).mean())


def best_frame(picture: Picture, frames: list[Picture]) -> tuple[int, float]:
	"""The number of the frame most like `picture` and its ssim; candidates are chosen by difference."""
	small = picture[::8, ::8].astype(np.int32)
	distances = [int(np.abs(frame[::8, ::8].astype(np.int32) - small).sum()) for frame in frames]
	near = np.argsort(distances)[:3]
	return max(((int(n), ssim(picture, frames[n])) for n in near), key=lambda found: found[1])

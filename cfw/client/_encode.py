"""Pictures as arrays: what makes JPEGs of them, and what is no picture.

An array is anything with a buffer of two or three dimensions, so numpy is never imported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import Any, Literal, Protocol, TypeAlias, get_args

Encoder: TypeAlias = Literal["auto", "simplejpeg", "pillow"]
Color: TypeAlias = Literal["rgb", "bgr"]
#: Pixels row by row, their height, width and channels, quality, and order of the channels.
_Encode: TypeAlias = Callable[[memoryview, tuple[int, int, int], int, str], bytes]


class Array(Protocol):
    """A numpy array, or what looks like one and lends its memory."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


Frame: TypeAlias = bytes | bytearray | memoryview | Array


class FrameEncoder:
    """Makes the frames of one capture out of what a rig has.

    Args:
        width: that pictures must have, in pixels.
        height: that pictures must have, in pixels.
        encode: what makes JPEGs; `auto` takes the first that is installed.
        quality: of those, 1 to 100.
        color: order of the channels.

    Raises:
        ValueError: an argument is none of these.
        ImportError: the encoder asked for is not installed.
    """

    def __init__(
        self, width: int, height: int, *, encode: Encoder, quality: int, color: Color
    ) -> None:
        for name, value, known in (("encode", encode, Encoder), ("color", color, Color)):
            if value not in get_args(known):
                raise ValueError(f"{name} must be one of {get_args(known)}, not {value!r}")
        if type(quality) is not int or not 1 <= quality <= 100:
            raise ValueError(f"quality must be an integer from 1 to 100, not {quality!r}")
        self._choices = tuple(_LOADERS) if encode == "auto" else (encode,)
        if encode != "auto" and find_spec(_MODULES[encode]) is None:
            raise _missing(self._choices)
        self._width, self._height = width, height
        self._quality = quality
        self._color = color

    def read(self, frame: Frame) -> bytes | memoryview:
        """Tell JPEGs from pictures: bytes are the former, a memoryview has to be encoded.

        Raises:
            TypeError: it is neither bytes nor an array.
            ValueError: it is an array of the wrong type or size.
        """
        if isinstance(frame, bytes):
            return frame
        lender: Any = frame
        try:
            view = memoryview(lender)
        except TypeError:
            raise TypeError(
                f"a frame is JPEG bytes or a picture as an array, not {type(frame).__name__}"
            ) from None
        if view.ndim == 1 and view.itemsize == 1:
            return bytes(view)
        if view.format != "B":
            dtype = getattr(frame, "dtype", f"format {view.format!r}")
            raise ValueError(f"a picture has to be of uint8, not {dtype}")
        size, shape = (self._height, self._width), view.shape or ()
        if shape not in (size, (*size, 1), (*size, 3)):
            raise ValueError(_wrong_shape(shape, size))
        return view

    def encode(self, picture: memoryview) -> bytes:
        """Make a JPEG of a picture that `read` has found good; blocks for milliseconds.

        Raises:
            ImportError: no encoder is installed.
        """
        channels = picture.nbytes // (self._height * self._width)
        colors = "gray" if channels == 1 else self._color
        rows = picture.cast("B") if picture.c_contiguous else memoryview(picture.tobytes())
        shape = (self._height, self._width, channels)
        return self._encode(rows, shape, self._quality, colors)

    @cached_property
    def _encode(self) -> _Encode:
        for name in self._choices:
            try:
                return _LOADERS[name]()
            except ImportError:
                continue
        raise _missing(self._choices)


def _load_simplejpeg() -> _Encode:
    simplejpeg = import_module("simplejpeg")

    def encode(
        rows: memoryview, shape: tuple[int, int, int], quality: int, colors: str
    ) -> bytes:
        jpeg: bytes = simplejpeg.encode_jpeg(
            rows.cast("B", shape),
            quality=quality,
            colorspace=colors.upper(),
            # As cameras and Pillow have it; simplejpeg's own default is larger by half.
            colorsubsampling="Gray" if colors == "gray" else "420",
        )
        return jpeg

    return encode


def _load_pillow() -> _Encode:
    from PIL import Image

    def encode(
        rows: memoryview, shape: tuple[int, int, int], quality: int, colors: str
    ) -> bytes:
        height, width, _ = shape
        mode, raw = ("L", "L") if colors == "gray" else ("RGB", colors.upper())
        data: Any = rows  # any buffer will do
        image = Image.frombuffer(mode, (width, height), data, "raw", raw, 0, 1)
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        return file.getvalue()

    return encode


#: In the order of preference: the first is made for arrays.
_LOADERS: dict[str, Callable[[], _Encode]] = {
    "simplejpeg": _load_simplejpeg,
    "pillow": _load_pillow,
}
_MODULES = {"simplejpeg": "simplejpeg", "pillow": "PIL"}


def _missing(choices: tuple[str, ...]) -> ImportError:
    return ImportError(
        f"a picture in an array needs {' or '.join(choices)} to become a JPEG, which is not "
        "installed: pip install 'camera-feed-worker[numpy]'"
    )


def _wrong_shape(shape: tuple[int, ...], size: tuple[int, int]) -> str:
    said = " x ".join(map(str, shape)) or "a single number"
    height, width = size
    text = (
        f"a picture has to be {height} x {width} x 3 or {height} x {width} (height x width, "
        f"as declared), not {said}"
    )
    if shape[2:] == (4,):
        text += "; leave the fourth channel out with frame[:, :, :3]"
    elif shape[1:] in ((), (1,)) or shape[:1] == (1,):
        text += "; if it is a JPEG already, send frame.tobytes()"
    return text

"""What `cfw send` read and did not send, counted: nothing is left out without a word."""

from __future__ import annotations

import attrs

__all__ = ["LeftOut"]


@attrs.define
class LeftOut:
    """Counts over all sources of a capture; of each kind the first, in words.

    Attributes:
        damaged_images: images in which something went wrong; the next one was looked for.
        cut_images: images inside which their stream ends.
        further_images: images that belong to another in the same file (CIPA DC-007).
        bytes: those behind images that are neither padding nor text.
        files: files of directories that hold no JPEG image.
        early_images: images of a live source that came before the start.
        skipped_frames: those of a source with more in a second than are sent.
        dropped_frames: those that a camera or its driver lost, and nobody ever had.
        clock_jumps: how often a camera's clock was set while it filmed; event times go on.
    """

    damaged_images: int = 0
    cut_images: int = 0
    further_images: int = 0
    bytes: int = 0
    files: int = 0
    early_images: int = 0
    skipped_frames: int = 0
    dropped_frames: int = 0
    clock_jumps: int = 0
    _damage: str = ""
    _cut: str = ""
    _file: str = ""
    _drop: str = ""

    @property
    def damage(self) -> str:
        """What was wrong with the first damaged image; empty if there is none."""
        return self._damage

    def add_damaged(self, why: str) -> None:
        """Count an image that is damaged, or cut short by the one behind it."""
        self.damaged_images += 1
        self._damage = self._damage or why

    def add_cut(self, why: str) -> None:
        """Count an image inside which its stream ends."""
        self.cut_images += 1
        self._cut = self._cut or why

    def add_file(self, why: str) -> None:
        """Count a file that holds no image."""
        self.files += 1
        self._file = self._file or why

    def add_dropped(self, count: int, where: str) -> None:
        """Count frames that never came; none is fine."""
        self.dropped_frames += count
        if count:
            self._drop = self._drop or where

    def absorb(self, other: LeftOut) -> None:
        """Add what another has counted."""
        for field in attrs.fields(LeftOut):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            is_count = isinstance(mine, int)
            setattr(self, field.name, mine + theirs if is_count else mine or theirs)

    def counts(self) -> dict[str, int]:
        """The counts that are not zero, by their names."""
        fields = attrs.asdict(self, filter=attrs.filters.include(int))
        return {name: count for name, count in fields.items() if count}

    def sentences(self) -> list[str]:
        """A line for each kind of which there is any."""
        said = [
            (
                self.damaged_images,
                f"{_number(self.damaged_images, 'damaged image')}; the first: {self._damage}",
            ),
            (
                self.cut_images,
                f"{_number(self.cut_images, 'image')} cut at the end; the first: {self._cut}",
            ),
            (
                self.further_images,
                f"{_number(self.further_images, 'further image')} of a multi-picture file",
            ),
            (self.bytes, f"{_number(self.bytes, 'byte')} behind images"),
            (
                self.files,
                f"{_number(self.files, 'file')} without a JPEG image; the first: {self._file}",
            ),
            (self.early_images, f"{_number(self.early_images, 'image')} before the start"),
            (
                self.skipped_frames,
                f"{_number(self.skipped_frames, 'frame')}, to keep to the rate that is sent",
            ),
        ]
        sentences = [f"left out: {sentence}" for is_any, sentence in said if is_any]
        if self.dropped_frames:
            number = _number(self.dropped_frames, "frame")
            sentences.append(
                f"dropped by the camera or its driver: {number}; the first: {self._drop}"
            )
        if self.clock_jumps:
            times = _number(self.clock_jumps, "time")
            sentences.append(f"the camera's clock was set {times}; event times went on")
        return sentences


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

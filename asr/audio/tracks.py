"""Audio tracks: which one of a container is recognised."""

from __future__ import annotations

from typing import Any

from asr.errors import AudioError

# How containers tag the language of a model: ISO 639-1, ISO 639-2, and BCP 47 with a region.
LANGUAGES = {"en": frozenset({"en", "eng", "english"})}
DEFAULT = 1  # of ffmpeg's dispositions
MODEL_LANGUAGE = "en"


def choose_track(container: Any, wanted: str | int | None, name: str) -> tuple[Any, str | None]:
    """The audio track to recognise, and a line about it where there are several.

    Without a wish it is the track tagged with the model's language, then the default one, then the first.

    Args:
        container: an open one.
        wanted: number of an audio track, from 1, or its language as the container tags it, such as ``en`` or ``eng``.
        name: of the recording, for errors.
    Raises:
        AudioError: there is no audio, or no such track.
    """
    tracks = [track for track in container.streams.audio if track.codec_context is not None]
    if not tracks:
        raise AudioError(f"{name}: there is no audio in it; give a file with an audio track")
    chosen = _wanted(tracks, str(wanted).strip().lower(), name) if wanted is not None else _preferred(container, tracks)
    if len(tracks) == 1:
        return chosen, None
    return chosen, f"{name}: took audio track {_described(tracks, chosen)} of {len(tracks)}; others with --track"


def _wanted(tracks: list[Any], wanted: str, name: str) -> Any:
    if wanted.isdecimal():
        if 1 <= int(wanted) <= len(tracks):
            return tracks[int(wanted) - 1]
    else:
        fitting = [track for track in tracks if _speaks(track, wanted)]
        if fitting:
            return next((track for track in fitting if _is_default(track)), fitting[0])
    have = ", ".join(_described(tracks, track) for track in tracks)
    raise AudioError(f"{name}: has no audio track {wanted}; it has {have}")


def _preferred(container: Any, tracks: list[Any]) -> Any:
    best = container.streams.best("audio")  # of PyAV 14, which cannot tell which one is the default
    known = hasattr(tracks[0], "disposition")

    def rank(number: int) -> tuple[bool, bool, int]:
        track = tracks[number]
        default = _is_default(track) if known else best is not None and track.index == best.index
        return not _speaks(track, MODEL_LANGUAGE), not default, number

    return tracks[min(range(len(tracks)), key=rank)]


def _speaks(track: Any, wanted: str) -> bool:
    tagged = (track.language or "").lower().replace("_", "-")
    names = next((names for names in LANGUAGES.values() if wanted in names), frozenset({wanted}))
    return tagged in names or tagged.partition("-")[0] in names


def _is_default(track: Any) -> bool:
    return bool(int(getattr(track, "disposition", 0)) & DEFAULT)


def _described(tracks: list[Any], track: Any) -> str:
    language = track.language
    return f"{tracks.index(track) + 1}" + (f" ({language})" if language and language != "und" else "")

"""How roots grow: numbers of frames, hourly values, and the rhythm of the day.

After ChronoRoot (Gaggion et al., GigaScience 10, 2021): median filters, laterals that never shrink, a moving
average, values an hour, the gradient as speed, and the spectrum of what is left without its trend.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage, signal

from anatozoo.errors import ConfigError, DataError
from anatozoo.roots.system import RootSystem

Values = npt.NDArray[np.float64]
_LENGTH_FRAMES, _COUNT_FRAMES, _MEAN_FRAMES, _DENSITY_HOURS = 9, 25, 4, 5
_FIRM_PX, _FIRM_COUNT = 50.0, 4


def frame_table(systems: Iterable[RootSystem | Exception]) -> pd.DataFrame:
    """A row for each frame: ``status``, ``reason``, ``flags``, lengths in pixels, number of laterals.

    Args:
        systems: what `anatozoo.roots.tracking.follow` gives; an error is a row without numbers.
    """
    rows = []
    for number, found in enumerate(systems):
        if isinstance(found, Exception):
            rows.append({"frame": number, "status": "failed", "reason": str(found), "flags": ""})
            continue
        rows.append(
            {
                "frame": number,
                "status": "ok",
                "reason": "",
                "flags": ";".join(found.flags),
                "main_px": found.main.length_px,
                "laterals_px": found.laterals_px,
                "total_px": found.total_px,
                "laterals": len(found.laterals),
            }
        )
    names = ["frame", "status", "reason", "flags", "main_px", "laterals_px", "total_px", "laterals"]
    return pd.DataFrame(rows, columns=names).astype({"laterals": "Int64"})  # whole beside gaps, too


def growth_table(
    frames: pd.DataFrame, *, minutes: float = 15.0, pixel_mm: float | None = None
) -> pd.DataFrame:
    """Hourly values of one plant.

    Lengths of frames pass a median filter of 9 frames, the number of laterals one of 25; laterals never
    shrink once they are longer than 50 px, their number once it is above 4. Lengths then pass a moving
    average of 4 frames to each side. Frames without numbers are filled from those around.

    Args:
        frames: what `frame_table` gives, in the order of time.
        minutes: between two frames, at most 60.
        pixel_mm: side of a pixel; None leaves pixels.

    Returns:
        Columns ``hours``, ``main``, ``laterals``, ``total`` (lengths, mm or px), ``number`` (of laterals),
        ``speed`` (of the main root, an hour), ``main_share`` (percent of the total length), ``density``
        (laterals per 10 mm or px of main root) and ``length_density`` (length of laterals per length of the
        main root).

    Raises:
        ConfigError: the minutes or the side of a pixel are none.
        DataError: there are fewer than two full hours, 0 among them, or than two frames with a root.
    """
    if not 0 < minutes <= 60:
        raise ConfigError(f"minutes={minutes} between two frames must be above 0, and at most 60.")
    if pixel_mm is not None and not 0 < pixel_mm < np.inf:
        raise ConfigError(f"pixel_mm={pixel_mm} must be above 0.")
    hours = np.arange(0, (len(frames) - 1) * minutes / 60 + 1e-9)
    if frames["main_px"].notna().sum() < 2 or len(hours) < 2:
        raise DataError(f"{len(frames)} frames of {minutes:g} minutes hold no two hours with roots.")
    filled = frames[["main_px", "laterals_px", "laterals"]].astype(float).interpolate(limit_direction="both")
    main = _median(filled["main_px"].to_numpy(), _LENGTH_FRAMES)
    laterals = _firm(_median(filled["laterals_px"].to_numpy(), _LENGTH_FRAMES), _FIRM_PX)
    number = _firm(_median(filled["laterals"].to_numpy(), _COUNT_FRAMES), _FIRM_COUNT)
    at, unit = np.arange(len(frames)) * minutes / 60, 1.0 if pixel_mm is None else pixel_mm

    def hourly(values: Values) -> Values:
        return np.interp(hours, at, ndimage.uniform_filter1d(values, 2 * _MEAN_FRAMES + 1, mode="nearest"))

    table = pd.DataFrame(
        {
            "hours": hours,
            "main": unit * hourly(main),
            "laterals": unit * hourly(laterals),
            "number": np.round(np.interp(hours, at, number)),
        }
    )
    table.insert(3, "total", table["main"] + table["laterals"])
    table["speed"] = np.gradient(table["main"].to_numpy())
    table["main_share"] = 100 * table["main"] / table["total"]
    table["density"] = _median((10 * table["number"] / table["main"]).to_numpy(), _DENSITY_HOURS)
    table["length_density"] = _median((table["laterals"] / table["main"]).to_numpy(), _DENSITY_HOURS)
    return table


def spectrum(speeds: npt.ArrayLike) -> tuple[Values, Values]:
    """The rhythm in hourly speeds of growth.

    Args:
        speeds: (hours,) of a plant or (plants, hours); at least 48 hours.

    Returns:
        Frequencies in 1/h, without 0, and the amplitude at each, in the unit of the speeds: of these without
        their linear trend, the mean over the plants.

    Raises:
        DataError: there are fewer hours, or a value that is not finite.
    """
    values = np.atleast_2d(np.asarray(speeds, float))
    if values.ndim != 2 or values.shape[1] < 48 or not np.isfinite(values).all():
        raise DataError(f"a rhythm of days needs finite speeds of at least 48 hours, not {values.shape}.")
    amplitude = np.abs(np.fft.rfft(signal.detrend(values, axis=1), axis=1)).mean(0) * 2 / values.shape[1]
    if values.shape[1] % 2 == 0:
        amplitude[-1] /= 2  # half a cycle an hour has no second, negative frequency
    frequencies: Values = np.fft.rfftfreq(values.shape[1]).astype(float)
    return frequencies[1:], amplitude[1:]


def _median(values: Values, size: int) -> Values:
    found: Values = ndimage.median_filter(values, size, mode="nearest")
    return found


def _firm(values: Values, floor: float) -> Values:
    """The same, never falling once it has been above the floor."""
    highest = np.maximum.accumulate(values)
    return np.where(np.concatenate([[False], highest[:-1] > floor]), highest, values)

"""Class names: from a text file, one a line, or those that the source holds."""

from __future__ import annotations

from pathlib import Path

from xai_deploy.format.rows import Rows
from xai_deploy.foundation.texts import read_text

from ..cut.scores.detectors.detector import Names
from ..cut.scores.rows import AUTO
from ..errors import RequestError
from ..request import Request
from ..sources import TrainedNetwork

_BLANK, _SPACE, _NO_OBJECT = "(blank)", "(space)", "(no object)"


def named(request: Request, network: TrainedNetwork) -> Names:
    """How many classes `--labels` names, or else the source. A decoder that is asked for needs no lines to be told from others.

    Raises:
        RequestError: From `read_labels`.
    """
    if request.labels is not None and request.decoder == AUTO:
        return Names(len(read_labels(request.labels, None)), all=True)
    return Names(len(network.labels))


def class_names(
    request: Request, network: TrainedNetwork, classes: int, rows: Rows | None = None
) -> tuple[tuple[str, ...], str | None]:
    """The names of the classes, and a line for people if they are the source's or if the source's do not fit.

    The names of a detector's classes may leave out the class that means "no object". Rows that state their class do not say how
    many there are: any number of names fits.

    The characters of a text recogniser (PaddleOCR) have a blank before them, and mostly a space after them, that the file leaves
    out.

    Raises:
        RequestError: From `read_labels`.
    """
    any_number, background = rows is not None and rows.labelled, None if rows is None else rows.background
    classes = classes if rows is None else rows.classes
    if request.labels is not None:
        return tuple(read_labels(request.labels, None if any_number else classes)), None
    names = network.labels
    if not names:
        return (), None
    key = network.labels_from
    where = f"the file's metadata {key!r}" if " " not in key else key
    forms = [names]
    if network.labels_from == "character":
        forms += [(_BLANK, *names), (_BLANK, *names, _SPACE)]
    if background is not None:
        forms += [(*names[:background], _NO_OBJECT, *names[background:])]
    fitting = next((form for form in forms if any_number or len(form) == classes), ())
    if not fitting:
        return (
            (),
            f"{where[0].upper()}{where[1:]} has {len(names)} names for {classes} classes; they are not used. Give --labels.",
        )
    return fitting, f"Class names are those of {where}."


def read_labels(path: Path, classes: int | None) -> list[str]:
    """The labels, in the classes' order.

    Args:
        path: The text file, in UTF-8.
        classes: The number of classes; None: any.

    Raises:
        RequestError: The file can't be read, has another number of lines than there are classes, or an empty one.
    """
    try:
        lines = read_text(path).removesuffix("\n").split("\n")  # as the bundle is read
    except OSError as error:
        raise RequestError(f"{path}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise RequestError(f"{path}: is not text in UTF-8; it takes one label a line, in the classes' order") from None
    if lines == [""]:
        raise RequestError(f"{path}: is empty; it takes one label a line, in the classes' order")
    if classes not in (None, len(lines)):
        raise RequestError(
            f"{path}: {len(lines)} labels for {classes} classes; one label a line, in the classes' order"
        )
    if not all(line.strip() for line in lines):
        raise RequestError(f"{path}: line {next(i for i, line in enumerate(lines, 1) if not line.strip())} is empty")
    return [line.strip() for line in lines]

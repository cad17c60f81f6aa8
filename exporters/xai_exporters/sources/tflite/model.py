"""What of a TFLite file is needed beside OpenVINO's reader: names of outputs, custom operators, metadata.

The numbers of the fields are those of tensorflow/lite/schema/schema.fbs.
"""

from __future__ import annotations

import io
import math
import zipfile

from xai_deploy.foundation.zip_files import UnsoundZipError, require_apart

from .flatbuffer import Table

VERSION = 3
"""The schema's version since 2017; TFLite's own runtime reads no other."""

_OPERATOR_CODES, _SUBGRAPHS, _BUFFERS, _METADATA = 1, 2, 4, 6  # of Model
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS = 0, 1, 2, 3  # of SubGraph
_CUSTOM_NAME = 1  # of OperatorCode
_CODE_OF_OPERATOR, _TAKEN, _GIVEN, _OPTIONS = 0, 1, 2, 5  # of Operator
_SHAPE, _TYPE, _NAME, _QUANTIZATION = 0, 1, 3, 4  # of Tensor
_SCALE, _ZERO = 2, 3  # of QuantizationParameters
_MOST_FILES = 1000  # in the archive


class TFLite:
    """A file's content.

    Args:
        data: All its bytes.

    Raises:
        ValueError: It is damaged.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._model = Table.root(data)
        self.version = self._model.number(0, "<I")
        graphs = list(self._model.tables(_SUBGRAPHS))
        if not graphs:
            raise ValueError("it holds no graph")
        self._graph = graphs[0]
        tensors = list(self._graph.tables(_TENSORS))
        ends = [
            [tensors[i] for i in self._graph.numbers(f, "<i") if 0 <= i < len(tensors)] for f in (_INPUTS, _OUTPUTS)
        ]
        self._tensors = tensors
        self.input_shapes = [tensor.numbers(_SHAPE, "<i") for tensor in ends[0]]
        self.outputs = [tensor.text(_NAME) for tensor in ends[1]]
        self._inputs = ends[0]

    def given(self) -> list[str]:
        """The names of the tensors that operators give.

        Raises:
            ValueError: The file is damaged.
        """
        places = [place for operator in self._graph.tables(_OPERATORS) for place in operator.numbers(_GIVEN, "<i")]
        return [self._tensors[i].text(_NAME) for i in dict.fromkeys(places) if 0 <= i < len(self._tensors)]

    def input_codes(self) -> tuple[float, int] | None:
        """The scale and the zero point of the only input: its numbers are scale (code - zero). None if it has none.

        Raises:
            ValueError: The file is damaged.
        """
        quantised = self._inputs[0].table(_QUANTIZATION) if len(self._inputs) == 1 else None
        if quantised is None:
            return None
        scales, zeros = quantised.numbers(_SCALE, "<f"), quantised.numbers(_ZERO, "<q")
        plain = len(scales) == len(zeros) == 1 and 0 < scales[0] < math.inf and abs(zeros[0]) < 256
        return (scales[0], int(zeros[0])) if plain else None

    def output_of(self, custom: str) -> str:
        """The name of the first tensor that a custom operator of this name gives; "" if there is none.

        Raises:
            ValueError: The file is damaged.
        """
        names = [code.text(_CUSTOM_NAME) for code in self._model.tables(_OPERATOR_CODES)]
        for operator in self._graph.tables(_OPERATORS):
            place, given = operator.number(_CODE_OF_OPERATOR, "<I"), operator.numbers(_GIVEN, "<i")
            if place < len(names) and names[place] == custom and given and 0 <= given[0] < len(self._tensors):
                tensor: Table = self._tensors[given[0]]
                return tensor.text(_NAME)
        return ""

    def output_at(self, place: int) -> str:
        """The name of the first tensor that the operator at a place gives; "" if there is none.

        Raises:
            ValueError: The file is damaged.
        """
        for at, operator in enumerate(self._graph.tables(_OPERATORS)):
            if at == place:
                given = operator.numbers(_GIVEN, "<i")[:1]
                return next((self._tensors[i].text(_NAME) for i in given if 0 <= i < len(self._tensors)), "")
        return ""

    def of_type(self, kind: int) -> str:
        """The name of the first tensor whose elements have a type, a number of the schema's TensorType; "" if there is none.

        Raises:
            ValueError: The file is damaged.
        """
        return next((tensor.text(_NAME) for tensor in self._tensors if tensor.number(_TYPE, "<b") == kind), "")

    def custom_options(self, custom: str) -> dict[str, bytes]:
        """The options of the custom operators of this name, by the name of their second input.

        Raises:
            ValueError: The file is damaged.
        """
        names = [code.text(_CUSTOM_NAME) for code in self._model.tables(_OPERATOR_CODES)]
        found = {}
        for operator in self._graph.tables(_OPERATORS):
            place, taken = operator.number(_CODE_OF_OPERATOR, "<I"), operator.numbers(_TAKEN, "<i")
            if place < len(names) and names[place] == custom and len(taken) > 1 and 0 <= taken[1] < len(self._tensors):
                found[self._tensors[taken[1]].text(_NAME)] = operator.blob(_OPTIONS)
        return found

    def metadata(self, name: str) -> bytes:
        """The buffer of a metadata entry; b"" if there is none.

        Raises:
            ValueError: It is damaged.
        """
        for entry in self._model.tables(_METADATA):
            if entry.text(0) == name:
                place = entry.number(1, "<I")
                for i, buffer in enumerate(self._model.tables(_BUFFERS)):
                    if i == place:
                        return buffer.blob(0)
        return b""

    def associated_file(self, name: str, longest: int) -> bytes:
        """A file of the zip archive after the graph; b"" if there is none, or it has no such file.

        Raises:
            ValueError: The archive is damaged, or the file is longer than `longest` bytes.
        """
        try:
            whole = io.BytesIO(self._data)
            with zipfile.ZipFile(whole) as archive:
                entries = archive.infolist()
                if len(entries) > _MOST_FILES:
                    raise ValueError(f"its archive holds more than {_MOST_FILES} files")
                require_apart(whole, entries, len(self._data))
                with archive.open(name) as file:
                    content = file.read(longest + 1)
        except (KeyError, zipfile.BadZipFile):
            return b""
        except UnsoundZipError as error:
            raise ValueError(f"its archive of associated files is {error}") from None
        except ValueError:
            raise
        except Exception as error:  # zipfile lets every error that damage causes through
            raise ValueError(f"its archive is damaged ({error})") from None
        if len(content) > longest:
            raise ValueError(f"{name!r} in its archive is longer than {longest} bytes")
        return content

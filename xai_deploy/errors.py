"""Every error that xai-deploy raises on purpose. One tree, one line each: what is wrong, where, what to do.

XaiError
├── BundleError                 the bundle on disk
│   ├── NotABundleError         no such folder, or no manifest in it
│   ├── ManifestError           the manifest is not what its format says
│   ├── FormatVersionError      written in another format, or with features that this version does not know
│   ├── IntegrityError          a byte differs from what the manifest recorded
│   ├── UnsafePathError         a file name that leaves the folder, a link, or not a plain file
│   ├── SignatureError          no signature, or one that the trusted key did not make for these bytes
│   ├── UnsafeGraphError        a graph that could harm: operators, order, sizes, or more memory than its file explains
│   └── MissingRoleError        the method needs a graph that this bundle does not hold
├── KeyFileError                a key file that can't be read, or holds no key that signs bundles
├── ModelFileError              a model file in place of a bundle: xai-export refuses it, or fails
│   ├── ExporterNotInstalledError  xai-export is not installed
│   └── CacheError              the cache of exported bundles can't be used
├── RecordsError                records can't be written or read
├── InputError                  the caller's input
│   ├── ImageFileError          an image file that cannot be read, or is incomplete
│   ├── ImageTooLargeError      an image whose header announces more pixels than allowed
│   ├── ShapeError              wrong rank, channels or size
│   ├── DtypeError              neither uint8 pixels nor floats
│   ├── NonFiniteInputError     NaN or infinity in the input
│   ├── RecordingError          a recorded reference can't be read, or belongs to other images
│   ├── SavedExplanationError  a folder of Explanation.save can't be written or read
│   ├── TruthError              the ground truth can't be read, or does not fit the images
│   └── TargetError             the class to explain
│       ├── UnknownClassError   an index out of range
│       ├── UnknownLabelError   a label the bundle does not list, or lists twice
│       └── NotPredictedError   a region is where the network predicts a class, and it predicts that class nowhere
├── MethodError
│   ├── UnknownMethodError      no such method
│   ├── UnknownMetricError      no such metric
│   ├── OptionError             no such option, or a value it does not take
│   └── NotApplicableError      the method is not defined for this network
├── BackendError
│   ├── UnknownBackendError     no such backend
│   ├── BackendNotInstalledError  its runtime is not installed
│   ├── DeviceError             the device is not there (never a silent fallback)
│   └── RuntimeFailure          the runtime refused the graph or failed while running it
│       └── WrongResultError    the runtime computes a graph wrongly: its logits are not the network's
└── NonFiniteOutputError        the network or a map gave NaN or infinity
"""

from __future__ import annotations


class XaiError(Exception):
    """Base of every error raised on purpose by xai-deploy and xai-deploy-exporters."""


class BundleError(XaiError):
    """Something is wrong with the bundle on disk."""


class NotABundleError(BundleError):
    """The path is not a folder with a `manifest.json`."""


class ManifestError(BundleError):
    """The manifest is not valid JSON, or not what its format says."""


class FormatVersionError(BundleError):
    """The bundle has a format, or requires a feature, that this version does not know."""


class IntegrityError(BundleError):
    """A file of the bundle differs from what the manifest recorded."""


class UnsafePathError(BundleError):
    """The manifest names something other than a plain file directly inside the bundle."""


class SignatureError(BundleError):
    """The bundle has no signature, or one that the trusted key did not make for these bytes."""


class UnsafeGraphError(BundleError):
    """A graph holds what a bundle's graphs may not, or would need far more memory than its file explains."""


class MissingRoleError(BundleError):
    """The bundle holds no graph of a role that the method needs."""


class KeyFileError(XaiError):
    """A key file can't be read, or holds no key that signs bundles."""


class ModelFileError(XaiError):
    """A model file, given in place of a bundle, can't be exported; the message is that of xai-export."""


class ExporterNotInstalledError(ModelFileError):
    """A model file needs xai-export, which is not installed."""


class CacheError(ModelFileError):
    """The cache of exported bundles can't be used: others could write to it, or this user can't."""


class RecordsError(XaiError):
    """Records of explanations can't be written, or a folder holds none that can be read."""


class InputError(XaiError):
    """The caller's input can't be explained."""


class ImageFileError(InputError):
    """An image file can't be read, or is incomplete."""


class ImageTooLargeError(InputError):
    """An image's header announces more pixels than the limit."""


class ShapeError(InputError):
    """An array has the wrong rank, channels or size."""


class DtypeError(InputError):
    """An array holds neither uint8 pixels nor floats."""


class NonFiniteInputError(InputError):
    """The input holds NaN or infinity."""


class RecordingError(InputError):
    """A recorded reference can't be read, or belongs to other images."""


class SavedExplanationError(InputError):
    """An explanation can't be saved, or a folder is no saved explanation."""


class TruthError(InputError):
    """The ground truth can't be read, or does not fit the images."""


class TargetError(InputError):
    """The class to explain can't be determined."""


class UnknownClassError(TargetError):
    """A class index is out of range."""


class UnknownLabelError(TargetError):
    """A label that the bundle does not list, or lists more than once."""


class NotPredictedError(TargetError):
    """A region is where the network predicts a class, and it predicts that class nowhere in an image."""


class MethodError(XaiError):
    """The method, or the metric, can't be used as asked."""


class UnknownMethodError(MethodError):
    """No method of this name."""


class UnknownMetricError(MethodError):
    """No metric of this name."""


class OptionError(MethodError):
    """The method has no such option, or the option does not take this value."""


class NotApplicableError(MethodError):
    """The method is not defined for this network."""


class BackendError(XaiError):
    """The inference runtime can't be used as asked."""


class UnknownBackendError(BackendError):
    """No backend of this name."""


class BackendNotInstalledError(BackendError):
    """The backend's runtime is not installed."""


class DeviceError(BackendError):
    """The device asked for is not there, or can't do what was asked of it."""


class ClosedError(BackendError):
    """The Explainer was closed before this call."""


class RuntimeFailure(BackendError):
    """The runtime refused a graph, or failed while running it."""


class WrongResultError(RuntimeFailure):
    """The runtime computes a graph wrongly: the graph's own logits are not those of head and tail."""


class NonFiniteOutputError(XaiError):
    """The network, or a method's map, gave NaN or infinity."""

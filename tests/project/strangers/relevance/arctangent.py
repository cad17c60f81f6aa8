"""A stranger's relevance of Atan: an elementwise function of one tensor passes it as it is."""

from xai_exporters.relevance.fixed_rules import Pass
from xai_exporters.relevance.table import relevance

relevance("Atan")(Pass())

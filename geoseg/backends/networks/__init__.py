"""Networks of the field that no library has as such: published heads on an encoder of smp or timm."""

from geoseg.backends.networks.fcn import FCN
from geoseg.backends.networks.hrnet import HRNet

__all__ = ["FCN", "HRNet"]

"""OmniPerf: autonomous agents make real code faster; the harness measures whether they did."""

__version__ = "0.1.0"
